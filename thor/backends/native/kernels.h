/* Kernels of the CPU backend: what they share. Shapes are those of thor.backends.base.Backend; float32, C order.

   MindSpore calls a kernel with pointers to the inputs and then the outputs, their shapes and dtypes (ops.Custom,
   func_type "aot"). It returns 0, or the number of a mistake in its arguments. Products, factorisations and inverses
   are those of the BLAS and LAPACK whose addresses thor_bind was given. */
#ifndef THOR_KERNELS_H
#define THOR_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define THOR_KERNELS_VERSION 2

#define KERNEL(name)                                                                                       \
    int name(int n_arguments, void **data, int *n_axes, int64_t **shapes, const char **dtypes, void *stream, \
             void *extra)

enum { FINE = 0, WRONG_COUNT = 1, WRONG_SHAPE = 2, WRONG_DTYPE = 3, NO_MEMORY = 4, NOT_BOUND = 5 };

/* Fortran's routines: matrices are column by column, which shows them the transposes of ours. */
struct linear_algebra {
    void (*sgemm)(const char *, const char *, const int *, const int *, const int *, const float *, const float *,
                  const int *, const float *, const int *, const float *, float *, const int *);
    void (*ssyrk)(const char *, const char *, const int *, const int *, const float *, const float *, const int *,
                  const float *, float *, const int *);
    void (*strsm)(const char *, const char *, const char *, const char *, const int *, const int *, const float *,
                  const float *, const int *, float *, const int *);
    void (*spotrf)(const char *, const int *, float *, const int *, int *);
    void (*set_threads)(int); /* NULL, like the next: the library cannot be told, and no threads are added to its own */
    int (*get_threads)(void);
};
extern struct linear_algebra thor_blas;

/* One independent piece of work; `scratch` belongs to the thread that does it. */
typedef void (*piece)(void *context, int64_t index, float *scratch);

/* Do pieces 0 to count - 1, on all cores of the process. With fewer pieces than cores they are done in turn, by all
   threads of the BLAS. `scratch` is what a piece needs, in floats. */
int thor_for_each(piece work, void *context, int64_t count, size_t scratch);

/* out = x y of operands rounded to bfloat16, (rows, inner) and (inner, columns), unit stride along rows. */
void thor_multiply_bfloat16(const float *x, int64_t x_stride, const float *y, int64_t y_stride, float *out,
                            int64_t out_stride, int64_t rows, int64_t inner, int64_t columns, float *scratch);
size_t thor_bfloat16_scratch(int64_t rows, int64_t inner, int64_t columns); /* in floats */
int thor_has_bfloat16(void); /* whether the processor has instructions for it */

int64_t thor_size(int n_axes, const int64_t *shape);
int thor_all_float32(int count, const char **dtypes);

static inline int64_t at_most(int64_t value, int64_t limit) { return value < limit ? value : limit; }
static inline int64_t ceil_div(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }

#endif
