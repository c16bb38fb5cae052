/* Layers: modules that hold parameters and apply operators. Semantics and initialisation are PyTorch's (torch.nn).
 *
 * A module is made with tsr_<layer>_create and freed with tsr_module_destroy, which a container calls for the modules put into
 * it. Constructors return NULL with tsr_last_error() set. Parameters are f32 leaves that require gradients; they are
 * initialised on the host from `seed`-independent streams of the device's generator seed (tsr_seed), so that one seed gives
 * bitwise the same weights on every device. */
#ifndef TESSERA_NN_H
#define TESSERA_NN_H

#include "tessera/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tsr_module tsr_module;

/* x [.., in] → [.., out]. weight [out, in] and bias [out] from U(-1/√in, 1/√in). */
TSR_API tsr_module *tsr_linear_create(tsr_device *device, int64_t in, int64_t out, bool bias);
/* weight [out, in / groups, kh, kw] and bias from U(-1/√fan, 1/√fan), fan = in / groups · kh · kw. NULL options: defaults. */
TSR_API tsr_module *tsr_conv2d_create(tsr_device *device, int64_t in, int64_t out, int64_t kernel_height,
                                      int64_t kernel_width, const tsr_conv2d_options *options, bool bias);
/* Likewise of one dimension, and of three: kernel holds depth, height, width. */
TSR_API tsr_module *tsr_conv1d_create(tsr_device *device, int64_t in, int64_t out, int64_t kernel,
                                      const tsr_conv1d_options *options, bool bias);
TSR_API tsr_module *tsr_conv3d_create(tsr_device *device, int64_t in, int64_t out, const int64_t *kernel,
                                      const tsr_conv3d_options *options, bool bias);
/* Transposed: weight [in, out / groups, ..], fan = out / groups · the kernel's sizes. */
TSR_API tsr_module *tsr_conv_transpose1d_create(tsr_device *device, int64_t in, int64_t out, int64_t kernel,
                                                const tsr_conv_transpose1d_options *options, bool bias);
TSR_API tsr_module *tsr_conv_transpose2d_create(tsr_device *device, int64_t in, int64_t out, int64_t kernel_height,
                                                int64_t kernel_width, const tsr_conv_transpose2d_options *options,
                                                bool bias);
TSR_API tsr_module *tsr_conv_transpose3d_create(tsr_device *device, int64_t in, int64_t out, const int64_t *kernel,
                                                const tsr_conv_transpose3d_options *options, bool bias);
TSR_API tsr_module *tsr_max_pool2d_create(const tsr_pool2d_options *options);
TSR_API tsr_module *tsr_avg_pool2d_create(const tsr_pool2d_options *options);
/* weight 1, bias 0, running_mean 0, running_var 1 (buffers, not parameters). momentum 0 means 0.1, epsilon 0 means 1e-5. */
TSR_API tsr_module *tsr_batch_norm2d_create(tsr_device *device, int64_t channels, double momentum, double epsilon);
/* Over x's last `rank` dimensions, of `shape`: weight 1, bias 0 (if there is one). epsilon 0 means 1e-5. */
TSR_API tsr_module *tsr_layer_norm_create(tsr_device *device, int rank, const int64_t *shape, double epsilon,
                                          bool bias);
/* Indices [..] → [.., width]: weight [count, width] from the normal distribution; row padding_idx (negative: none) is 0 and gets no
 * gradient. */
TSR_API tsr_module *tsr_embedding_create(tsr_device *device, int64_t count, int64_t width, int64_t padding_idx);
/* torch.nn.LSTM and GRU (Hochreiter and Schmidhuber 1997; Cho et al. 2014). x [steps, n, in] → [steps, n, directions · hidden]. Parameters of
 * layer k: weight_ih_lk [gates · hidden, its inputs], weight_hh_lk [gates · hidden, hidden], bias_ih_lk, bias_hh_lk [gates · hidden], with _reverse behind
 * them for the second direction, all from U(-1/√hidden, 1/√hidden); gates i, f, g, o or r, z, n. */
typedef struct tsr_recurrent_options {
    int layers; /* 0 means 1 */
    bool no_bias;
    bool batch_first;   /* x and the result are [n, steps, ..]; states never are */
    bool bidirectional; /* a second direction, from the last step to the first; its outputs stand behind the others */
    double dropout;     /* of what goes from a layer to the next, in training */
} tsr_recurrent_options;
TSR_API tsr_module *tsr_lstm_create(tsr_device *device, int64_t in, int64_t hidden,
                                    const tsr_recurrent_options *options);
TSR_API tsr_module *tsr_gru_create(tsr_device *device, int64_t in, int64_t hidden,
                                   const tsr_recurrent_options *options);
/* tsr_forward with states [layers · directions, n, hidden]: h0 and c0 (LSTM) at first, NULL for zeros; the last ones to *h and *c, either of which
 * may be NULL, as may y. All three are new tensors in the scope. */
TSR_API tsr_status tsr_recurrent_forward(tsr_module *module, tsr_tensor *x, tsr_tensor *h0, tsr_tensor *c0,
                                         tsr_tensor **y, tsr_tensor **h, tsr_tensor **c);
TSR_API tsr_module *tsr_dropout_create(double p);
TSR_API tsr_module *tsr_relu_create(void);
TSR_API tsr_module *tsr_leaky_relu_create(double slope);
TSR_API tsr_module *tsr_gelu_create(void);
TSR_API tsr_module *tsr_silu_create(void);
TSR_API tsr_module *tsr_tanh_create(void);
TSR_API tsr_module *tsr_sigmoid_create(void);
/* Merges all dimensions from `first` on. */
TSR_API tsr_module *tsr_flatten_create(int first);
/* Applies modules one after the other; owns them. `modules` ends at `count`; a NULL among them (a constructor that failed)
 * destroys the others and gives NULL, so constructors can be nested in one expression. (C leaves open in which order they then
 * run, and so which random numbers each takes; compilers go from left to right. Where that is not enough, create them one
 * by one.) */
TSR_API tsr_module *tsr_sequential_create(tsr_module *const *modules, size_t count);
#define TSR_SEQUENTIAL(...)                                                                                            \
    tsr_sequential_create((tsr_module *[]){__VA_ARGS__}, sizeof((tsr_module *[]){__VA_ARGS__}) / sizeof(tsr_module *))

/* A layer of the caller's own: forward(context, x) with the parameters that it registered. `release` frees context (may be NULL). */
typedef tsr_tensor *tsr_forward_fn(void *context, tsr_module *self, tsr_tensor *x);
TSR_API tsr_module *tsr_module_create(const char *kind, tsr_forward_fn *forward, void *context,
                                      void (*release)(void *context));
/* The module takes the caller's reference of the tensor. Names have no dot. */
TSR_API tsr_status tsr_module_add_parameter(tsr_module *module, const char *name, tsr_tensor *parameter);
TSR_API tsr_status tsr_module_add_buffer(tsr_module *module, const char *name, tsr_tensor *buffer);
TSR_API tsr_status tsr_module_add_child(tsr_module *module, const char *name, tsr_module *child); /* takes it over */

TSR_API void tsr_module_destroy(tsr_module *module); /* NULL is allowed */
TSR_API tsr_tensor *tsr_forward(tsr_module *module, tsr_tensor *x);
/* Training mode (dropout on, batch statistics), the initial one, or evaluation; for the module and all below it. */
TSR_API void tsr_module_train(tsr_module *module, bool training);
TSR_API bool tsr_module_is_training(const tsr_module *module);

/* Parameters of the module and all below it in order of registration, names joined by dots ("0.weight"), borrowed. */
TSR_API size_t tsr_module_parameter_count(const tsr_module *module);
TSR_API tsr_tensor *tsr_module_parameter(const tsr_module *module, size_t index, char *name, size_t name_size);
TSR_API tsr_tensor *tsr_module_find(const tsr_module *module,
                                    const char *name); /* parameter or buffer; NULL with an error */
TSR_API size_t tsr_module_buffer_count(const tsr_module *module);
TSR_API tsr_tensor *tsr_module_buffer(const tsr_module *module, size_t index, char *name, size_t name_size);
/* Sets every parameter's gradient to none. */
TSR_API void tsr_module_clear_grad(tsr_module *module);

#ifdef __cplusplus
}
#endif
#endif
