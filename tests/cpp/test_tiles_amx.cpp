// The processor's side of test_tiles.cpp: a file with the flags of AMX.
#include "tile_products.h"

namespace tile_test {

void run_amx(const Case& c, uint8_t* out, uint8_t* zeroed) { run<bmx::AmxTiles>(c, out, zeroed); }

}  // namespace tile_test
