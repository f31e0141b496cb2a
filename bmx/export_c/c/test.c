/* Tests the network against what the engine of bmx computed.

   test_net$usage_arguments
$usage
   SAMPLES has of each sample its inputs and then its outputs, 32-bit floats: `bmx export-c --samples` writes it. */
#include <math.h>
#include <stdio.h>

#include "net.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* As a part of the largest number of an output: what roundings may do, and what they may do where they decide a bit. */
static const float tolerance = 1e-3f, tolerance_of_bits = 0.25f;

static uint32_t scratch[NET_SCRATCH_SIZE / 4 + 1];
$memory
enum { OUTPUTS = $outputs, SAMPLE_NUMBERS = $sample_numbers };
static const char *const names[OUTPUTS] = {$names};

/* References: samples whose inputs are random numbers, the same as in Python; outputs, of large ones a part. */
enum { REFERENCES = $references };
$expected

/* Of an output, over all samples: the largest difference and the largest number expected; in how many samples the
   largest number is at the same place, and in how many there are but roundings between the two; its numbers. */
struct result {
    float difference, largest;
    long agree, close;
    size_t numbers;
};

/* A number from -scale to scale with 16 bits: exact, so that all machines have the same. */
static float random_number(uint32_t *state, float scale)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)((int32_t)(*state >> 16) - 32768) / 32768.0f * scale;
}

static void random_numbers(uint32_t *state, float scale, float *to, size_t count)
{
    size_t i;
    for (i = 0; i < count; i++) to[i] = random_number(state, scale);
}

/* Every step-th number; NaN agrees with NaN, and infinities with themselves. */
static void compare(const float *out, const float *expected, size_t count, size_t step, struct result *r)
{
    float largest_difference = 0;
    size_t i, best = 0, wanted = 0;
    for (i = 0; i < count; i += step) {
        const float a = out[i], b = expected[i / step], difference = fabsf(a - b);
        if (a > out[best]) best = i;
        if (b > expected[wanted / step]) wanted = i;
        if (fabsf(b) > r->largest && fabsf(b) < INFINITY) r->largest = fabsf(b);
        if (a == b || (a != a && b != b)) continue;
        if (difference != difference) largest_difference = INFINITY; /* one of both is NaN */
        if (difference > largest_difference) largest_difference = difference;
    }
    if (largest_difference > r->difference) r->difference = largest_difference;
    r->close += largest_difference <= tolerance * r->largest;
    r->agree += best == wanted;
    r->numbers = count;
}

static int within_tolerance(const struct result *r)
{
    return r->difference <= tolerance * r->largest;
}

/* Without fused multiply-add, sums of float layers are rounded in another way, and may decide a few bits in another
   way. So some samples of a classifier may differ by more than roundings, but not most, nor much, nor in the class. */
static int differs_by_bits(const struct result *r, long samples)
{
    return r->numbers > 1 && r->agree == samples && 2 * r->close > samples &&
           r->difference <= tolerance_of_bits * r->largest;
}

static int run(const void *weights)
{
    int status;
    memset(scratch, 0xa5, sizeof scratch); /* what is there does not matter */
    status = $run;
    if (status != NET_OK) fprintf(stderr, "net_run: %s\n", net_error(status));
    return status;
}

static int check_references(const void *weights)
{
    struct result r[OUTPUTS] = {{0, 0, 0, 0, 0}};
    uint32_t state = 1;
    int i, failed = 0;
    for (i = 0; i < REFERENCES; i++) {
$random
        if (run(weights) != NET_OK) return 1;
$compare
    }
    for (i = 0; i < OUTPUTS; i++) {
        const int passed = within_tolerance(&r[i]);
        printf("net: %d references, %s: largest difference %g of %g: %s\n", (int)REFERENCES, names[i],
               (double)r[i].difference, (double)r[i].largest, passed ? "passed" : "FAILED");
        failed |= !passed;
    }
    return failed;
}

/* Mistakes of a caller are refused. */
static int check_refusals(const void *weights)
{
    static const uint32_t others[16] = {0};
    int right = 1;
    right &= $run_null == NET_NULL;
    right &= $run_misaligned == NET_MISALIGNED;
    right &= $run_others == NET_OTHER_NETWORK;
    right &= net_check_weights(weights, 63) == NET_TRUNCATED;
    right &= net_check_weights(weights, NET_WEIGHTS_SIZE - 1) == NET_TRUNCATED;
    right &= net_check_weights(others, sizeof others) == NET_NOT_WEIGHTS;
    printf("net: mistakes are refused: %s\n", right ? "passed" : "FAILED");
    return !right;
}

static int check_samples(const void *weights, const char *path)
{
    struct result r[OUTPUTS] = {{0, 0, 0, 0, 0}};
    long samples = 0;
    size_t numbers = 0;
    int i, failed = 0;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "%s: cannot be opened\n", path);
        return 1;
    }
    for (;; samples++) {
        numbers = 0;
$read
        if (numbers < SAMPLE_NUMBERS || run(weights) != NET_OK) break;
$compare_samples
    }
    if (!feof(file) || numbers != 0 || samples == 0) {
        fprintf(stderr, "%s: no samples, or a part of one\n", path);
        failed = 1;
    }
    fclose(file);
    for (i = 0; i < OUTPUTS; i++) {
        const int passed = within_tolerance(&r[i]) || differs_by_bits(&r[i], samples);
        printf("net: %ld samples, %s: largest difference %g of %g, largest number at the same place in %ld: %s\n",
               samples, names[i], (double)r[i].difference, (double)r[i].largest, r[i].agree, passed ? "passed" : "FAILED");
        failed |= !passed;
    }
    return failed;
}

int main(int argc, char **argv)
{
    int status, failed;
$main
    status = net_check_weights(weights, NET_WEIGHTS_SIZE);
    if (status != NET_OK) {
        fprintf(stderr, "net_check_weights: %s\n", net_error(status));
        return 1;
    }
    failed = check_references(weights);
    failed |= check_refusals(weights);
    if (argc > $samples_at) failed |= check_samples(weights, argv[$samples_at]);
    return failed;
}
