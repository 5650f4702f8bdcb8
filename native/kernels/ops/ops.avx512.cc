#include "ops.inc"
