/* $summary
   Written by `bmx export-c`. docs: README.md beside this file. */
#ifndef NET_H
#define NET_H

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of the weights ($weights_file) and of the scratch memory that net_run needs. */
#define NET_WEIGHTS_SIZE $weights_size
#define NET_SCRATCH_SIZE $scratch_size

/* Addresses of both must be multiples of this. Multiples of 64 are fastest with vector instructions. */
#define NET_ALIGNMENT 4

/* Numbers of floats of the inputs and outputs. */
$sizes
/* Results of the functions. net_error describes them. */
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
/* Runs the network on one sample. Several threads may run it at once, each with its own scratch memory.

$arguments
   Returns NET_OK. On NET_NULL, NET_MISALIGNED or NET_OTHER_NETWORK it has computed nothing. */
int net_run($parameters);

/* Checks that these are the weights of this network, complete and undamaged. Call it once after reading them. `size` is
   their size in bytes. Returns NET_OK or the fault. */
int net_check_weights(const void *weights, size_t size);

/* Describes the result of a function. */
const char *net_error(int status);

#ifdef __cplusplus
}
#endif

#endif
