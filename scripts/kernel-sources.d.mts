export function kernelSources(): number
