#include "likelihood.inc"
