// Runs all tests, or those whose names contain the argument, or with `-WORD` those whose names do not contain WORD.
#include <cstring>

#include "test.h"

static bool wanted(const char* name, const char* argument) {
  if (*argument == '-') return std::strstr(name, argument + 1) == nullptr;
  return std::strstr(name, argument) != nullptr;
}

int main(int count, char** arguments) {
  size_t passed = 0;
  for (const test::Case& c : test::cases()) {
    if (count > 1 && !wanted(c.name, arguments[1])) continue;
    c.run();
    std::printf("ok %s\n", c.name);
    ++passed;
  }
  std::printf("%zu passed, 0 failed\n", passed);
}
