/* Handwritten digits on a Cortex-M4 without operating system: shows pictures, what the network takes each for, how many
   instructions that took, and how much stack. Text goes to the emulator or debugger (semihosting). */
#include <stdint.h>
#include <stdio.h>

#include "digits.h"
#include "lenet.h"

enum { SIDE = 28, CLASSES = 10, IN_A_ROW = 4, MARGIN = 4, STACK = 4096, PAINT = 0x5a5a5a5a };

static uint32_t scratch[LENET_SCRATCH_SIZE / 4];

/* The processor's timer counts down from 2^24 - 1 at 25 MHz. Under `qemu -icount shift=0` an instruction takes a
   nanosecond, so that a tick is 40 instructions; on a real board it is 40 ns. */
enum { TICK = 40, TICKS = 0x1000000 };
static volatile uint32_t *const timer = (uint32_t *)0xe000e010u; /* control, reload value, current value */

static void start_timer(void)
{
    timer[1] = TICKS - 1;
    timer[2] = 0;
    timer[0] = 5; /* the processor's clock, no interrupt, on */
}

static void show(const uint8_t (*pictures)[SIDE * SIDE], int count)
{
    static const char shades[] = " .:-=+*#%@";
    int i, x, y;
    for (y = MARGIN; y < SIDE - MARGIN; y += 2) { /* a character is twice as high as wide */
        for (i = 0; i < count; i++) {
            for (x = MARGIN; x < SIDE - MARGIN; x++) {
                const int sum = pictures[i][y * SIDE + x] + pictures[i][(y + 1) * SIDE + x];
                putchar(shades[sum * 9 / (2 * 255)]);
            }
        }
        putchar('\n');
    }
}

/* The likeliest digit, or -1. */
static int classify(const uint8_t *picture, uint32_t *instructions)
{
    static float pixels[SIDE * SIDE], scores[CLASSES];
    uint32_t begin;
    int i, best = 0, status;
    for (i = 0; i < SIDE * SIDE; i++) pixels[i] = (float)picture[i] / 255.0f;
    begin = timer[2];
    status = lenet_run(lenet_weights, scratch, pixels, scores);
    *instructions = TICK * ((begin - timer[2]) % TICKS);
    if (status != LENET_OK) {
        printf("%s\n", lenet_error(status));
        return -1;
    }
    for (i = 1; i < CLASSES; i++) {
        if (scores[i] > scores[best]) best = i;
    }
    return best;
}

static int all(void)
{
    uint64_t total = 0;
    uint32_t instructions;
    int first, i, right = 0;
    for (first = 0; first < DIGITS; first += IN_A_ROW) {
        const int count = DIGITS - first < IN_A_ROW ? DIGITS - first : IN_A_ROW;
        show(digits + first, count);
        for (i = first; i < first + count; i++) {
            const int found = classify(digits[i], &instructions);
            if (found < 0) return 1;
            right += found == digit_labels[i];
            total += instructions;
            printf("%6d %-13s", found, found == digit_labels[i] ? "" : "(wrong)");
        }
        printf("\n\n");
    }
    printf("%d of %d right, %lu instructions each\n", right, DIGITS, (unsigned long)(total / DIGITS));
    return 0;
}

int main(void)
{
    uint32_t *stack, *unused;
    uint32_t instructions;
    int status;
    start_timer();
    if (lenet_check_weights(lenet_weights, LENET_WEIGHTS_SIZE) != LENET_OK) return 1;
    status = all();

    /* The memory below the stack is painted: what lenet_run has used is no longer so. */
    __asm__ volatile("mov %0, sp" : "=r"(stack));
    for (unused = stack - STACK / 4; unused < stack; unused++) *(volatile uint32_t *)unused = PAINT;
    classify(digits[0], &instructions);
    for (unused = stack - STACK / 4; unused < stack && *(volatile uint32_t *)unused == PAINT; unused++) {
    }
    printf("stack of a run: %d bytes\n", (int)(4 * (stack - unused)));
    return status;
}
