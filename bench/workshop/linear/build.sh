#!/usr/bin/env bash
# Builds bench/workshop/linear into one static executable (default /tmp/fewbit-linear), each level with its own flags.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-/tmp/fewbit-linear}
kernels=$here/../../../native/kernels
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
common=(-std=c++20 -O3 -ffp-contract=off -Wall -Wextra -Wno-psabi -Wno-maybe-uninitialized -Wno-missing-field-initializers -fno-rtti)
avx2=(-mavx2 -mfma -mf16c)
avx512=("${avx2[@]}" -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mprefer-vector-width=512)
for file in "$kernels"/linear/*.cc "$kernels"/cpu.cc "$kernels"/blocks/decode.cc; do
  name=$(basename "$file" .cc)
  flags=()
  case $name in *.avx2) flags=("${avx2[@]}") ;; *.avx512) flags=("${avx512[@]}") ;; *.wasm) continue ;; esac
  "${CXX:-g++}" "${common[@]}" -fno-exceptions "${flags[@]}" -c "$file" -o "$work/$name.o" &
done
wait
"${CXX:-g++}" "${common[@]}" -static "$here/main.cc" "$work"/*.o -o "$out"
echo "$out"
