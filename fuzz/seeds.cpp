// Writes the files that fuzzing starts from into a folder.
#include <cstdio>
#include <fstream>
#include <string>

#include "../tests/cpp/sample_network.h"

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: fuzz_seeds FOLDER\n");
    return 2;
  }
  for (int channels : {1, 8, 70}) {
    const std::vector<uint8_t> file = test::sample_network(channels).file();
    const std::string path = std::string(arguments[1]) + "/sample-" + std::to_string(channels) + ".bmx";
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(file.data()), int64_t(file.size()));
  }
}
