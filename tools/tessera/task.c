#include "task.h"

#include <string.h>

#include "models.h"

static bool is_gpt(const char *name)
{
    return strcmp(name, "gpt") == 0;
}

tsr_status task_open(task *t, const train_settings *settings)
{
    return is_gpt(settings->task) ? task_open_gpt(t, settings) : task_open_mnist(t, settings);
}

void task_close(task *t)
{
    tsr_dataset_destroy(t->train);
    tsr_dataset_destroy(t->test);
    if (t->release != NULL && t->state != NULL)
        t->release(t->state);
}

const char *const *task_models(const char *name)
{
    return is_gpt(name) ? gpt_names : model_names;
}
