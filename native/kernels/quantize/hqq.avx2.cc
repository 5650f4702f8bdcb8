#include "hqq.inc"
