#include <stdio.h>
#include <tessera/tessera.h>

int main(int argc, char **argv)
{
    tsr_device *device = tsr_device_open(argc > 1 ? argv[1] : NULL); /* "cpu", "vulkan:0", "opencl", "cuda:1" … */
    tsr_dataset *mnist = tsr_mnist_open(NULL, true);
    tsr_batches *batches = tsr_batches_create(mnist, device, &(tsr_batches_options){.batch = 64, .shuffle = true});
    tsr_module *model = TSR_SEQUENTIAL(tsr_flatten_create(1), tsr_linear_create(device, 784, 128, true),
                                       tsr_relu_create(), tsr_linear_create(device, 128, 10, true));
    tsr_optimizer *adam = tsr_adam_for(model, &(tsr_adam_options){.lr = 1e-3});
    for (int step = 0; step < 200; step++) {
        tsr_tensor *images, *labels;
        int64_t count;
        tsr_scope_begin(); /* owns what the step makes */
        tsr_batches_next(batches, &images, &labels, &count);
        tsr_optimizer_clear_grad(adam);
        tsr_tensor *loss = tsr_cross_entropy(tsr_forward(model, images), labels);
        double value = 0;
        if (tsr_backward(loss) != TSR_OK || tsr_optimizer_step(adam) != TSR_OK ||
            (step % 50 == 49 && tsr_item(loss, &value) != TSR_OK))
            return fprintf(stderr, "%s\n", tsr_last_error()), 1;
        if (step % 50 == 49)
            printf("step %d: loss %.4f\n", step + 1, value);
        tsr_scope_end();
    }
    tsr_optimizer_destroy(adam);
    tsr_module_destroy(model);
    tsr_batches_destroy(batches);
    tsr_dataset_destroy(mnist);
    tsr_device_close(device);
}
