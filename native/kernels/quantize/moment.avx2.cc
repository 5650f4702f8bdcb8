#include "moment.inc"
