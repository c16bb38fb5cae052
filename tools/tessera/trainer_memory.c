/* --memory: who holds the device's memory, from the making of the model to the end of the first steps. */
#include "base/error.h"
#include "base/memory.h"
#include "tessera/memory.h"
#include "trainer.h"

enum { MEMORY_STEPS = 3 }; /* the first has no cached memory, the second is like all others, the third shows that */

tsr_status trainer_memory_begin(trainer *t)
{
    if (t->settings->memory == NULL)
        return TSR_OK;
    const tsr_status status = tsr_memory_record_begin(t->device, 0);
    t->recording_memory = status == TSR_OK;
    return status;
}

void trainer_memory_step(trainer *t)
{
    if (t->recording_memory && t->pace.queued - t->first >= MEMORY_STEPS)
        trainer_memory_end(t);
}

static tsr_status take_owners(trainer *t)
{
    train_run *r = t->run;
    size_t count, now;
    tsr_status status = tsr_memory_owners(t->device, NULL, 0, &count);
    if (status != TSR_OK || count == 0)
        return status;
    r->owners = host_alloc_zeroed(count, sizeof *r->owners);
    if (r->owners == NULL)
        return tsr_last_status();
    status = tsr_memory_owners(t->device, r->owners, count, &now); /* nobody else took memory meanwhile */
    r->owner_count = count;
    return status;
}

void trainer_memory_end(trainer *t)
{
    error_state before;
    if (!t->recording_memory)
        return;
    t->recording_memory = false;
    tsr_memory_record_end(t->device);
    error_save(&before);
    if (take_owners(t) != TSR_OK || tsr_memory_snapshot_write(t->device, t->settings->memory) != TSR_OK) {
        progress_note(&t->bar, "%s", tsr_last_error());
        t->run->unwritten = true;
    }
    error_restore(&before);
}
