#include "aqlm.inc"
