#!/usr/bin/env bash
# Builds bench/workshop/linear into one static executable (default /tmp/fewbit-linear), each level with its own flags.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-/tmp/fewbit-linear}
kernels=$here/../../../native/kernels/linear
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
common=(-std=c++20 -O3 -ffp-contract=off -Wall -Wextra -Wno-psabi -Wno-maybe-uninitialized -fno-rtti)
avx2=(-mavx2 -mfma -mf16c)
avx512=("${avx2[@]}" -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni)
for file in "$kernels"/*.cc; do
  name=$(basename "$file" .cc)
  flags=()
  case $name in *.avx2) flags=("${avx2[@]}") ;; *.avx512) flags=("${avx512[@]}") ;; *.wasm) continue ;; esac
  "${CXX:-g++}" "${common[@]}" -fno-exceptions "${flags[@]}" -c "$file" -o "$work/$name.o"
done
"${CXX:-g++}" "${common[@]}" -static "$here/main.cc" "$work"/*.o -o "$out"
echo "$out"
