#include "awq.inc"
