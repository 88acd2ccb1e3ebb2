// The implementation of stb_image, for one format only: the fewer parsers, the fewer holes.
#define STB_IMAGE_IMPLEMENTATION
#include "data/stb_image_config.h"
