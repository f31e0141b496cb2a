#include "test.h"

int main() {
  size_t passed = 0;
  for (const test::Case& c : test::cases()) {
    c.run();
    std::printf("ok %s\n", c.name);
    ++passed;
  }
  std::printf("%zu passed, 0 failed\n", passed);
}
