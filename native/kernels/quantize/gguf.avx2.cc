#include "gguf.inc"
