/* Whose memory a thread takes: what an allocator notes with each block. */
#ifndef TESSERA_MEMORY_LABEL_H
#define TESSERA_MEMORY_LABEL_H

#include "tessera/memory.h"

typedef struct memory_label {
    const char *name; /* static; NULL: nobody's */
    tsr_memory_kind kind;
} memory_label;

extern _Thread_local memory_label memory_label_here;

/* From now on the thread's memory is of this label, unless it has one: the outermost counts. Gives what memory_label_close takes. */
static inline memory_label memory_label_open(tsr_memory_kind kind, const char *name)
{
    const memory_label before = memory_label_here;
    if (before.name == NULL)
        memory_label_here = (memory_label){name, kind};
    return before;
}

static inline void memory_label_close(memory_label before)
{
    memory_label_here = before;
}

#endif
