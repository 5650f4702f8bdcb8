// Checks every linear kernel against double and times it beside a read of the same bytes.
//   linear check          exit code 1 when a result is wrong
//   linear decode [filter] [level]  GB/s of one row from memory and from cache
//   linear time [filter]  GB/s of weights and the ratio to the read probe; GFLOP/s for many rows
#include "check.h"
#include "time.h"

int main(int count, char** arguments) {
  const std::string what = count > 1 ? arguments[1] : "check";
  if (what == "check") return check() ? 0 : 1;
  if (what == "decode") return time_one_row(count > 2 ? arguments[2] : "", count > 3 ? arguments[3] : ""), 0;
  if (what == "time") return time_all(count > 2 ? arguments[2] : ""), 0;
  fprintf(stderr, "usage: linear check | decode [filter] [level] | time [filter]\n");
  return 2;
}
