/* Weights and training states in files. Both are safetensors files (Hugging Face's format: a JSON header of names, dtypes, shapes and
 * offsets, then the tensors' bytes, little-endian), so that other programs can read them; PyTorch's and NumPy's readers of the format do.
 *
 * Files are untrusted: every length, offset, dtype and count is checked before memory is taken, and a file that is wrong
 * gives TSR_CORRUPT_DATA with a sentence that names it, and changes nothing. Writing replaces a file as a whole or not at all: it is written
 * beside the old one, synced to the disk and renamed. */
#ifndef TESSERA_IO_H
#define TESSERA_IO_H

#include "tessera/amp.h"
#include "tessera/data.h"
#include "tessera/nn.h"
#include "tessera/optim.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- safetensors -------------------------------------------------------------------------------------------------- */

typedef struct tsr_named_tensor {
    const char *name; /* UTF-8, not "__metadata__", no two alike */
    tsr_tensor *tensor;
} tsr_named_tensor;

/* A word on the file as a whole, kept in its header. */
typedef struct tsr_metadata {
    const char *key, *value;
} tsr_metadata;

/* Waits for the tensors' values and writes them. Needs host memory for all of them.
 * Errors: TSR_INVALID_ARGUMENT (a name twice, or none), TSR_IO_ERROR. */
TSR_API tsr_status tsr_safetensors_save(const char *path, const tsr_named_tensor *tensors, size_t count,
                                        const tsr_metadata *metadata, size_t metadata_count);

/* An open file: its header is read and checked, its tensors are read when asked for. */
typedef struct tsr_safetensors tsr_safetensors;

typedef struct tsr_safetensors_entry {
    const char *name;       /* lives as long as the file is open */
    const char *dtype_name; /* as the file has it: "F32" */
    tsr_dtype dtype;        /* TSR_DTYPE_COUNT for one that Tessera has no tensors of (I8, F8_E4M3 …) */
    int rank;
    int64_t shape[TSR_MAX_RANK];
    uint64_t bytes;
} tsr_safetensors_entry;

/* Errors: TSR_NOT_FOUND, TSR_IO_ERROR, TSR_CORRUPT_DATA, TSR_UNSUPPORTED (more than TSR_MAX_RANK dimensions, a dtype that the format
 * did not have when this was written). */
TSR_API tsr_safetensors *tsr_safetensors_open(const char *path);
TSR_API void tsr_safetensors_close(tsr_safetensors *file); /* NULL is allowed */
TSR_API size_t tsr_safetensors_count(const tsr_safetensors *file);
/* In the order of their bytes in the file. */
TSR_API tsr_status tsr_safetensors_describe(const tsr_safetensors *file, size_t index, tsr_safetensors_entry *entry);
/* NULL, without an error, where there is no such key. Lives as long as the file is open. */
TSR_API const char *tsr_safetensors_metadata(const tsr_safetensors *file, const char *key);
/* A new tensor on the device, in the dtype of the file, of the current scope. Errors: TSR_NOT_FOUND with the file's nearest name. */
TSR_API tsr_tensor *tsr_safetensors_load(tsr_safetensors *file, const char *name, tsr_device *device);

/* All parameters and buffers of the module, by their names. */
TSR_API tsr_status tsr_module_save(const tsr_module *module, const char *path);
/* And back, cast to the module's dtypes. The file must hold each of the module's tensors in its shape; it may hold more. All of that is
 * looked at first: where something is missing nothing is changed. (A read error half-way leaves some loaded.) */
TSR_API tsr_status tsr_module_load(tsr_module *module, const char *path);

/* ---- training states ---------------------------------------------------------------------------------------------- */

/* A training between two steps: what makes the steps to come bitwise those of a training that was never interrupted. */
typedef struct tsr_training {
    tsr_module *model;        /* required: parameters and buffers, and their device's random state */
    tsr_optimizer *optimizer; /* its state, step number and learning rate; NULL: none */
    tsr_batches *batches;     /* epoch and place in it; NULL: none */
    tsr_grad_scaler *scaler;  /* its scale and counts; NULL: none */
    int64_t step;             /* steps done */
    const char *settings;     /* one line that names the training; a file of other settings is not loaded */
    float *losses;            /* of the steps done, so many as `step`; NULL: none are kept */
    size_t losses_capacity;   /* for loading: how many fit */
    /* Words to keep in the file's metadata for others who read it; loading leaves them alone. At most 16. */
    const tsr_metadata *notes;
    size_t note_count;
} tsr_training;

/* Writes the state to `path`, with a SHA-256 over all of it. The `keep` - 1 files before it stay as path.1 (the latest), path.2, …; at every moment
 * there is a whole file at `path` or, while the very first is written, none. keep in [1, 100].
 * Errors: TSR_INVALID_ARGUMENT, TSR_IO_ERROR. */
TSR_API tsr_status tsr_training_save(const tsr_training *training, const char *path, int keep);

/* Fills model, optimizer, batches, scaler, random state, losses and step from the file. Errors: TSR_NOT_FOUND where there is none;
 * TSR_CORRUPT_DATA also where the digest is another; TSR_INVALID_ARGUMENT where it is a state of other settings, parameters or optimizer.
 * Up to there nothing has changed. */
TSR_API tsr_status tsr_training_load(tsr_training *training, const char *path);

#ifdef __cplusplus
}
#endif
#endif
