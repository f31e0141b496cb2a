/* What runs before main on a Cortex-M4: the vector table, and the floating-point unit is switched on. newlib's _start
   then sets up memory and calls main; input and output go to the emulator or debugger (semihosting). */
#include <stdint.h>

extern const uint32_t stack_top;
void _start(void);
void reset(void);

void reset(void)
{
    volatile uint32_t *const coprocessors = (uint32_t *)0xe000ed88u;
    *coprocessors |= 0xfu << 20;
    __asm__ volatile("dsb\n\tisb");
    _start();
}

static void fault(void)
{
    __asm__ volatile("bkpt 0");
    for (;;) {
    }
}

static const struct {
    const void *stack;
    void (*handlers[15])(void);
} vectors __attribute__((section(".vectors"), used)) = {&stack_top, {reset, fault, fault, fault, fault, fault}};
