// Runs all tests, or those whose names contain the argument.
#include <cstring>

#include "test.h"

int main(int count, char** arguments) {
  size_t passed = 0;
  for (const test::Case& c : test::cases()) {
    if (count > 1 && std::strstr(c.name, arguments[1]) == nullptr) continue;
    c.run();
    std::printf("ok %s\n", c.name);
    ++passed;
  }
  std::printf("%zu passed, 0 failed\n", passed);
}
