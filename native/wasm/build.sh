#!/usr/bin/env bash
# Builds native/wasm/fewbit.wasm, which is committed, with clang and lld of one major version: same sources, same bytes.
set -euo pipefail
cd "$(dirname "$0")/../.."
clang=${CLANG:-clang++-19}
out=${1:-native/wasm/fewbit.wasm}
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
flags=(--target=wasm32 -std=c++20 -O3 -msimd128 -matomics -mbulk-memory -mmutable-globals -mnontrapping-fptoint -msign-ext
  -ffreestanding -nostdlib -ffp-contract=off -fno-math-errno -fno-trapping-math -fno-exceptions -fno-rtti -fno-threadsafe-statics
  -fvisibility=hidden -Wall -Wextra -Wno-psabi "-DFB_SOURCES=$(node scripts/kernel-sources.mjs)")
# Every export of the table, by name.
names=$(printf '#include "native/kernels/exports.h"\n#define N(x) export: x;\nFB_EXPORTS(N, N, N)\n' |
  "$clang" "${flags[@]}" -x c++ -E -P -I. - | grep -o 'export: fb_[a-z0-9_]*' | sed 's/export: /--export=/')
files=$(find native/kernels native/wasm -name '*.cc' ! -name '*avx2.cc' ! -name '*avx512.cc' | LC_ALL=C sort)
index=0
linked=()
for file in $files; do
  object=$objects/$((index++)).o
  linked+=("$object")
  "$clang" "${flags[@]}" -c "$file" -o "$object" &
  while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
done
for job in $(jobs -p); do wait "$job"; done
# 64 KiB of stack for the main thread at the bottom; workers bring their own. Memory is shared and grows to 4 GiB.
# shellcheck disable=SC2086
"${clang/clang++/wasm-ld}" --no-entry --import-memory --shared-memory --initial-memory=2097152 --max-memory=4294967296 \
  --stack-first -z stack-size=262144 --strip-all --gc-sections --export=__stack_pointer $names --export=fb_offer_workers \
  -o "$out" "${linked[@]}"
