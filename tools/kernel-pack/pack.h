/* kernel-pack: makes C functions, driver sources and SPIR-V of the kernels (*.k), and the table that finds them.
 *
 * Runs once in a build and never frees: the process is its arena. Errors are printed as "file:line: sentence" and end
 * it with status 1. docs/kernel-dialect.md describes the language. */
#ifndef KERNEL_PACK_H
#define KERNEL_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- text.c ---------------------------------------------------------------------------------------------------- */

typedef struct text {
    char *data; /* NUL-terminated; NULL while empty */
    size_t length, capacity;
} text;

void text_add(text *t, const char *format, ...);
void text_add_bytes(text *t, const char *bytes, size_t length);
const char *text_string(const text *t); /* "" while empty */

void *allocate(size_t size); /* zeroed */
char *copy_of(const char *bytes, size_t length);
char *format_of(const char *format, ...);
_Noreturn void die(const char *file, int line, const char *format, ...);

char *read_file(const char *path, size_t *length); /* NULL if it cannot be read */
void write_file(const char *path, const char *bytes, size_t length);
void write_file_if_changed(const char *path, const char *bytes, size_t length);
void make_folder(const char *path);
bool is_word_char(char c);
bool has_word(const char *in, const char *word);
char *key_of_words(const char *key); /* "a/b/c" as an identifier */
/* 128 bits as 32 hexadecimal digits, for the name of a cache file; not cryptographic. */
char *hash_of(const char *bytes, size_t length);

/* storage types */

typedef struct storage_type {
    const char *name;     /* "bf16" */
    const char *real_tag; /* what `real` is for it: f32 f64 i32 i64 u32 */
    unsigned bytes;
    const char *feature; /* hal_feature expression, "0" if none */
} storage_type;

const storage_type *storage_type_find(const char *name);

/* ---- elementwise.c, expression.c --------------------------------------------------------------------------------- */

typedef struct elementwise_op {
    const char *name;
    int line;
    int arity;    /* 1, 2, 3 */
    bool compare; /* the result is a truth value, stored as bool */
    bool loss;    /* of two operands, and the results may be added up */
    bool bits;    /* of integers and bool only, without a derivative */
    bool integer; /* has integer instances */
    int ulp;
    const char *forward;      /* FN text of op_forward */
    const char *gradient[3];  /* FN text of op_grad_k, NULL where the derivative is 0 */
    bool needs_operand[3][3]; /* gradient k reads operand j */
    bool needs_result[3];
} elementwise_op;

typedef struct elementwise_table {
    const char *file;
    elementwise_op *ops;
    size_t count;
} elementwise_table;

void elementwise_read(const char *path, elementwise_table *table);
bool elementwise_in_class(const elementwise_op *op, const char *class_name);
void elementwise_write_table(const elementwise_table *table, const char *path);

/* An expression as dialect text, statements before it included: the body of a function returning real. */
typedef struct expression_use {
    bool operand[3], result;
} expression_use;
char *expression_body(const char *source, const char *file, int line, int arity, expression_use *use);
bool expression_is_zero(const char *source);

/* ---- scan.c ------------------------------------------------------------------------------------------------------ */

enum { TARGET_C = 1, TARGET_OPENCL = 2, TARGET_CUDA = 4, TARGET_SPIRV = 8 };

typedef struct region {
    const char *text; /* without comments, with their line ends */
    int line;
} region;

typedef struct binding {
    int slot;
    int access;       /* 1 read, 2 write, 3 both: hal_access */
    const char *type; /* as written: TX, f32 */
    const char *id;
} binding;

typedef struct kernel {
    const char *name;
    int line;
    region params;         /* the whole PARAMS(…) */
    unsigned params_words; /* filled where the fields are plain; 0 if they use macros */
    region body;           /* the whole KERNEL(…) {…} */
    binding bindings[8];
    int binding_count;
    const char *locals[8]; /* names */
    int local_count;
} kernel;

typedef struct dimension {
    const char *name; /* TX, OP */
    const char **values;
    size_t count;
    bool is_operator;
    int line;
} dimension;

typedef struct setting {
    const char *name, *value;
} setting;

typedef struct variant {
    const char *name; /* gpu, cpu */
    const char *group, *group_spirv;
    setting settings[16];
    int setting_count;
} variant;

typedef struct kernel_file {
    const char *path, *name; /* "kernels/softmax.k", "softmax" */
    dimension dimensions[8];
    int dimension_count;
    variant variants[2];
    int variant_count;
    int targets;
    bool no_alias;
    region *helpers;
    size_t helper_count;
    const char **functions; /* names of helper functions and macros: renamed for each instance */
    size_t function_count;
    const char **macros;
    size_t macro_count;
    kernel *kernels;
    size_t kernel_count;
} kernel_file;

/* Comments become nothing, their line ends stay, so that line numbers hold. */
char *without_comments(const char *source);
void scan_file(const char *path, const char *shown, const elementwise_table *table, kernel_file *file);

/* ---- instance.c ---------------------------------------------------------------------------------------------------- */

typedef struct instance {
    const kernel_file *file;
    const kernel *kernel;
    const variant *variant;
    const elementwise_op *op;       /* NULL if the file has none */
    const char *values[8];          /* of the file's dimensions */
    const char *key;                /* softmax/f32 */
    const char *symbol;             /* softmax_f32_gpu; its function is body_softmax_f32_gpu where texts hold many */
    const storage_type *first_type; /* of TX; NULL if there is none */
    const char *real_tag;
    const char *features;
    const storage_type *types[8]; /* of the bindings */
    const uint32_t *spirv;        /* set by glsl_compile; NULL if not made */
    size_t spirv_words;
} instance;

typedef struct instance_list {
    instance *items;
    size_t count, capacity;
} instance_list;

void instances_make(const kernel_file *file, const elementwise_table *table, instance_list *list);
void instances_sort(instance_list *list);

/* Pieces of an instance's text. `defines` also sets what the preludes ask for: REAL_TAG, BINDING_x, CONST_x, SLOT_x. */
void instance_add_defines(const instance *i, bool spirv, text *out);
void instance_add_undefines(const instance *i, text *out);
void instance_add_operator(const instance *i, text *out);
void instance_add_kernel(const instance *i, bool with_params, const char *name, text *out);
/* In a text that holds many instances: gives each one's functions names of their own. */
void instance_add_renames(const instance *i, bool spirv, text *out);
void instance_add_unrenames(const instance *i, bool spirv, text *out);

/* ---- emit_*.c, glsl.c, spirv.c, process.c ---------------------------------------------------------------------------------- */

typedef struct options {
    const char *root, *out; /* the source tree; the folder for what is made */
    const char *glslang;    /* NULL if absent */
    int jobs;
} options;

void emit_c(const options *o, const kernel_file *files, size_t count, const instance_list *list);
void emit_fiber(const options *o, const instance_list *list);
void emit_catalogue(const options *o, const instance_list *list);
void emit_texts(const options *o); /* the preludes as C arrays */
void glsl_compile(const options *o, instance_list *list);

typedef struct spirv_target {
    const char *function; /* the entry, as named in the GLSL text */
    unsigned group_size;
    uint32_t *words; /* filled by spirv_split */
    size_t count;
} spirv_target;
/* Cuts a module with many functions into modules with one entry each. False, with a sentence in `why`, if it cannot. */
bool spirv_split(const uint32_t *words, size_t count, spirv_target *targets, size_t target_count, const char **why);

/* Runs commands, `jobs` at a time; each is a NULL-terminated argv. Standard output and error go to `logs[i]`, a path.
 * statuses[i] is the exit status. */
void run_all(char ***commands, const char **logs, int *statuses, size_t count, int jobs);

#endif
