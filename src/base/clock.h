/* Time that only goes forward, from an arbitrary start. */
#ifndef TESSERA_BASE_CLOCK_H
#define TESSERA_BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_ns(void);
double clock_seconds(void);

/* Since 1970, as the system's clock says it: for people, not to measure with. */
double clock_unix_seconds(void);

#endif
