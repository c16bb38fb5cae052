#include "interrupt.h"

#include <signal.h>
#include <string.h>

static volatile sig_atomic_t pressed;

static void on_interrupt(int number)
{
    (void)number;
    pressed = 1;
}

void interrupt_watch(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESTART | (int)SA_RESETHAND;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

bool interrupted(void)
{
    return pressed != 0;
}
