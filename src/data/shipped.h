/* Data that ship with Tessera: in an installation's share/tessera/data, beside a program, or in the source tree. */
#ifndef TESSERA_DATA_SHIPPED_H
#define TESSERA_DATA_SHIPPED_H

#include <stddef.h>

#include "tessera/status.h"

/* Finds the folder `name` ("mnist"), which must hold one of `files` (ended by NULL), as $TESSERA_DATA_DIR/name where that variable is set. `label` is its
 * name for people, in the message of TSR_NOT_FOUND. */
tsr_status shipped_data_find(const char *label, const char *name, const char *const *files, char *out, size_t size);

/* The path of the text that ships: tinyshakespeare.txt. Errors likewise. */
tsr_status shipped_text_find(char *out, size_t size);

#endif
