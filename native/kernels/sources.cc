// Which sources these kernels were compiled from: the number of scripts/kernel-sources.mjs, given by the build.
#include "exports.h"

/** () -> the number. */
FB_EXPORT double fb_sources(const double*) { return FB_SOURCES; }
