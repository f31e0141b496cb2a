/* $summary
   Written by `bmx export-c`. docs: README.md beside this file. */
#ifndef NET_H
#define NET_H

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of the weights ($weights_file) and of the scratch memory that net_run works in. */
#define NET_WEIGHTS_SIZE $weights_size
#define NET_SCRATCH_SIZE $scratch_size

/* Addresses of both are multiples of this; 64 is fastest where there are vector instructions. */
#define NET_ALIGNMENT 4

/* Numbers of floats. */
$sizes
/* What the functions return; net_error has the words. */
enum {
    NET_OK,
    NET_NULL,
    NET_MISALIGNED,
    NET_TRUNCATED,
    NET_NOT_WEIGHTS,
    NET_VERSION,
    NET_BYTE_ORDER,
    NET_OTHER_NETWORK,
    NET_DAMAGED
};
$weights_array
/* Runs the network on one sample. Needs nothing else: several threads may run it, each with scratch memory of its own.

$arguments
   Returns NET_OK, or NET_NULL, NET_MISALIGNED or NET_OTHER_NETWORK and computes nothing. */
int net_run($parameters);

/* Whether these are the weights that this code was written for, whole and undamaged: once after reading them. `size` is
   their size in bytes. Returns NET_OK or what is wrong. */
int net_check_weights(const void *weights, size_t size);

/* What a number that a function returned means. */
const char *net_error(int status);

#ifdef __cplusplus
}
#endif

#endif
