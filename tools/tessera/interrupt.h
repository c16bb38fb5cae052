/* Ctrl-C: the first one asks, the second one ends the program at once. */
#ifndef TESSERA_INTERRUPT_H
#define TESSERA_INTERRUPT_H

#include <stdbool.h>

/* Whether it was pressed since interrupt_watch. */
void interrupt_watch(void);
bool interrupted(void);

#endif
