#include "aqlm-target.inc"
