/* Handwritten digits (LeCun et al. 1998) by a small network. */
#include <stdio.h>

#include "models.h"
#include "task.h"
#include "tessera/checkpoint.h"
#include "tessera/ops.h"

static tsr_module *create(const task *t, tsr_device *device)
{
    return model_create(t->settings->model, device);
}

static tsr_status checkpoint(tsr_module *model)
{
    return tsr_sequential_checkpoint(model, NULL, 0);
}

static void describe(const task *t, char *line, size_t size)
{
    snprintf(line, size, "%s on MNIST: %lld images", t->settings->model, (long long)tsr_dataset_count(t->train));
}

tsr_status task_open_mnist(task *t, const train_settings *settings)
{
    *t = (task){.unit = "images",
                .units = 1,
                .test_batch = 200,
                .evaluated = 10000, /* all of them */
                .counts_right = true,
                .settings = settings,
                .model = create,
                .checkpoint = checkpoint,
                .loss = tsr_cross_entropy,
                .describe = describe};
    t->train = tsr_mnist_open(settings->data, true);
    t->test = t->train == NULL ? NULL : tsr_mnist_open(settings->data, false);
    return t->test == NULL ? tsr_last_status() : TSR_OK;
}
