# 32-bit ARM Linux (ARMv7-A, hard float) with Debian's cross compiler (g++-arm-linux-gnueabihf); tests run under
# qemu-user where it is.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR armv7)
set(triple arm-linux-gnueabihf)
set(emulator qemu-arm)
include(${CMAKE_CURRENT_LIST_DIR}/cross.cmake)
