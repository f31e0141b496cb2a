/* $summary
   Written by `bmx export-c`. C99; needs only the C library. net_run at the end has one call per layer. */
#if defined(__BYTE_ORDER__) && defined(__ORDER_BIG_ENDIAN__)
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "net: the weights are little-endian; this compiler is for a big-endian machine"
#endif
#endif

#include "net.h"

#include <math.h>

/* Fails to compile unless the condition holds. */
#define NET_ASSERT(name, condition) typedef char net_assert_##name[(condition) ? 1 : -1]
NET_ASSERT(floats_have_32_bits, sizeof(float) == 4);
NET_ASSERT(weights_fit_in_memory, NET_WEIGHTS_SIZE <= SIZE_MAX);
NET_ASSERT(scratch_fits_in_memory, NET_SCRATCH_SIZE <= SIZE_MAX);
NET_ASSERT(weights_are_all, NET_WEIGHTS_SIZE == $weights_end);
NET_ASSERT(scratch_holds_all_tensors, NET_SCRATCH_SIZE >= $scratch_end);

$kernels
$layers
/* --- the weights' header and the functions of net.h ------------------------------------------------------------- */

enum {
    HEADER = 64,          /* bytes before the weights */
    FORMAT = 1,           /* version of the header and of the weights */
    BYTE_ORDER_AT = 12, VERSION_AT = 8, SIZE_AT = 16, CHECKSUM_AT = 20, CHECKED_FROM = 24, NETWORK_AT = 24
};
static const uint32_t network = $network; /* number of this code */

static uint32_t header_word(const void *weights, size_t at)
{
    uint32_t word;
    memcpy(&word, (const uint8_t *)weights + at, sizeof word);
    return word;
}

/* CRC-32 of zlib and PNG, 4 bits at a time. */
static uint32_t crc32_of(const uint8_t *p, size_t size)
{
    static const uint32_t table[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
        0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu, 0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};
    uint32_t crc = 0xffffffffu;
    size_t i;
    for (i = 0; i < size; i++) {
        crc ^= p[i];
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}

int net_check_weights(const void *weights, size_t size)
{
    static const uint8_t magic[8] = {0x89, 'B', 'M', 'W', 0x0d, 0x0a, 0x1a, 0x0a};
    if (weights == NULL) return NET_NULL;
    if ((uintptr_t)weights % NET_ALIGNMENT != 0) return NET_MISALIGNED;
    if (size < HEADER) return NET_TRUNCATED;
    if (memcmp(weights, magic, sizeof magic) != 0) return NET_NOT_WEIGHTS;
    if (header_word(weights, BYTE_ORDER_AT) != 0x01020304u) return NET_BYTE_ORDER;
    if (header_word(weights, VERSION_AT) != FORMAT) return NET_VERSION;
    if (size < header_word(weights, SIZE_AT)) return NET_TRUNCATED;
    if (header_word(weights, NETWORK_AT) != network) return NET_OTHER_NETWORK;
    if (header_word(weights, SIZE_AT) != NET_WEIGHTS_SIZE || size != NET_WEIGHTS_SIZE) return NET_DAMAGED;
    if (crc32_of((const uint8_t *)weights + CHECKED_FROM, NET_WEIGHTS_SIZE - CHECKED_FROM) !=
        header_word(weights, CHECKSUM_AT)) {
        return NET_DAMAGED;
    }
    return NET_OK;
}

const char *net_error(int status)
{
    switch (status) {
    case NET_OK: return "no error";
    case NET_NULL: return "a pointer is NULL";
    case NET_MISALIGNED: return "the address of weights, scratch memory or a sample is not a multiple of 4";
    case NET_TRUNCATED: return "the weights are truncated";
    case NET_NOT_WEIGHTS: return "these are not weights that bmx export-c wrote";
    case NET_VERSION: return "the weights have another version of the format";
    case NET_BYTE_ORDER: return "the weights have another byte order than this machine";
    case NET_OTHER_NETWORK: return "the weights belong to another network or another export: use those beside net.c";
    case NET_DAMAGED: return "the weights are damaged";
    default: return "unknown error";
    }
}

int net_run($parameters)
{
    struct net net;
$checks
    if (header_word(weights, NETWORK_AT) != network) return NET_OTHER_NETWORK;
    net.weights = weights;
    net.scratch = scratch;
$calls
    return NET_OK;
}
