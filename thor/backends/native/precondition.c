/* G^-1 g A^-1 for the gradients of all layers, straight on their layout: one piece for each pair of a block of rows
   and a block of columns. */
#include <string.h>

#include "kernels.h"

/* A layer of the plan. Blocks are `count` of `size` rows from `first` on in one of the tensors of inverses; of G there
   may be none, or a diagonal in the tensor before `scales` (0: none). A folded bias is the last column of the gradient. */
struct layer {
    int64_t folded, groups, rows, columns; /* without a folded bias */
    int64_t g_tensor, g_first, g_size, a_tensor, a_first, a_size, scales;
};
enum { FIELDS = 11 };
enum { ROWS_WITHOUT_G = 128 }; /* done at a time */

struct product {
    struct layer layer;
    int in_bfloat16;
    const float *weight, *bias, *inverses_g, *inverses_a, *scales;
    float *weight_out, *bias_out;
    int64_t first_piece, row_blocks, column_blocks; /* of a group */
};

struct products {
    struct product *all;
    int64_t count;
};

static const struct product *product_of(const struct products *products, int64_t index) {
    int64_t low = 0, high = products->count - 1;
    while (low < high) {
        int64_t middle = (low + high + 1) / 2;
        if (products->all[middle].first_piece <= index)
            low = middle;
        else
            high = middle - 1;
    }
    return &products->all[low];
}

static const float ONE = 1.0f, ZERO = 0.0f;

/* out = x y, all with unit stride along rows: Fortran sees out' = y' x'. */
static void multiply(const struct product *p, const float *x, int64_t x_stride, const float *y, int64_t y_stride,
                     float *out, int64_t out_stride, int64_t rows, int64_t inner, int64_t columns, float *scratch) {
    if (p->in_bfloat16) {
        thor_multiply_bfloat16(x, x_stride, y, y_stride, out, out_stride, rows, inner, columns, scratch);
        return;
    }
    int m = (int)columns, n = (int)rows, k = (int)inner;
    int ldy = (int)y_stride, ldx = (int)x_stride, ldout = (int)out_stride;
    thor_blas.sgemm("N", "N", &m, &n, &k, &ONE, y, &ldy, x, &ldx, &ZERO, out, &ldout);
}

static int64_t rows_at_a_time(const struct layer *layer) {
    return layer->g_size > 0 ? layer->g_size : at_most(layer->rows, ROWS_WITHOUT_G);
}

static void precondition_block(void *context, int64_t index, float *scratch) {
    const struct product *p = product_of(context, index);
    const struct layer *layer = &p->layer;
    int64_t within = index - p->first_piece, per_group = p->row_blocks * p->column_blocks;
    int64_t group = within / per_group, row_block = within % per_group / p->column_blocks;
    int64_t column_block = within % p->column_blocks, width = layer->columns + layer->folded;
    int64_t g_size = rows_at_a_time(layer);
    int64_t first_row = row_block * g_size, rows = at_most(g_size, layer->rows - first_row);
    int64_t first_column = column_block * layer->a_size, columns = at_most(layer->a_size, width - first_column);
    int64_t own_columns = at_most(columns, layer->columns - first_column); /* without the bias */
    const float *x = p->weight + (group * layer->rows + first_row) * layer->columns + first_column;
    float *out = p->weight_out + (x - p->weight);
    const float *bias = layer->folded ? p->bias + group * layer->rows + first_row : NULL;
    int64_t stride = layer->columns, out_stride = layer->columns;
    float *between = scratch, *joint = between + rows * columns, *halves = joint + rows * columns, *result = out;

    if (own_columns < columns) { /* the bias is among them */
        for (int64_t i = 0; i < rows; i++) {
            memcpy(joint + i * columns, x + i * stride, own_columns * sizeof(float));
            joint[i * columns + own_columns] = bias[i];
        }
        x = joint, stride = out_stride = columns, result = joint;
    }
    const float *inverse_a = p->inverses_a + (group * p->column_blocks + column_block) * layer->a_size * layer->a_size;
    if (layer->g_size > 0) {
        const float *inverse_g = p->inverses_g + (group * p->row_blocks + row_block) * g_size * g_size;
        multiply(p, inverse_g, g_size, x, stride, between, columns, rows, rows, columns, halves);
        multiply(p, between, columns, inverse_a, layer->a_size, result, out_stride, rows, columns, columns, halves);
    } else {
        multiply(p, x, stride, inverse_a, layer->a_size, between, columns, rows, columns, columns, halves);
        for (int64_t i = 0; i < rows; i++) {
            float scale = p->scales == NULL ? 1.0f : p->scales[group * layer->rows + first_row + i];
            for (int64_t j = 0; j < columns; j++)
                result[i * out_stride + j] = scale * between[i * columns + j];
        }
    }
    if (own_columns < columns)
        for (int64_t i = 0; i < rows; i++) {
            memcpy(out + i * layer->columns, joint + i * columns, own_columns * sizeof(float));
            p->bias_out[group * layer->rows + first_row + i] = joint[i * columns + own_columns];
        }
}

static void read_plan(const double *plan, struct layer *layer) {
    int64_t *fields[FIELDS] = {&layer->folded, &layer->groups, &layer->rows, &layer->columns, &layer->g_tensor,
                               &layer->g_first, &layer->g_size, &layer->a_tensor, &layer->a_first, &layer->a_size,
                               &layer->scales};
    for (int i = 0; i < FIELDS; i++)
        *fields[i] = (int64_t)plan[i];
}

/* Whether `count` blocks of `size` from `first` on are in a tensor of inverses. */
static int has_blocks(int axes, const int64_t *shape, int64_t first, int64_t count, int64_t size) {
    return axes == 3 && shape[1] == size && shape[2] == size && first >= 0 && first + count <= shape[0];
}

/* For one piece of a product, in floats: two blocks, and their roundings. */
static int64_t scratch_of(const struct product *p) {
    const struct layer *layer = &p->layer;
    int64_t rows = at_most(rows_at_a_time(layer), layer->rows);
    int64_t columns = at_most(layer->a_size, layer->columns + layer->folded);
    size_t by_g = thor_bfloat16_scratch(rows, rows, columns), by_a = thor_bfloat16_scratch(rows, columns, columns);
    return 2 * rows * columns + (p->in_bfloat16 ? (int64_t)(by_g > by_a ? by_g : by_a) : 0);
}

/* gradients, inverses, plan (n_layers, 11) -> preconditioned gradients; all float32 but the plan, float64 */
static int precondition(int n_arguments, void **data, int *n_axes, int64_t **shapes, const char **dtypes,
                        int in_bfloat16) {
    int64_t n_layers = 0, n_gradients = 0;
    int place = 0;
    while (place < n_arguments && strcmp(dtypes[place], "float64") != 0)
        place++;
    if (place == n_arguments || n_axes[place] != 2 || shapes[place][1] != FIELDS)
        return WRONG_SHAPE;
    const double *plan = data[place];
    n_layers = shapes[place][0];
    for (int64_t i = 0; i < n_layers; i++)
        n_gradients += 1 + (plan[i * FIELDS] != 0);
    int64_t n_inverses = place - n_gradients;
    if (n_inverses < 1 || n_arguments != place + 1 + n_gradients)
        return WRONG_COUNT;
    if (!thor_all_float32(place, dtypes) || !thor_all_float32((int)n_gradients, dtypes + place + 1))
        return WRONG_DTYPE;
    if (thor_blas.sgemm == NULL)
        return NOT_BOUND;

    struct product all[n_layers > 0 ? n_layers : 1];
    int64_t pieces = 0, gradient = 0, scratch = 0;
    for (int64_t i = 0; i < n_layers; i++) {
        struct product *p = &all[i];
        struct layer *layer = &p->layer;
        read_plan(plan + i * FIELDS, layer);
        p->row_blocks = ceil_div(layer->rows, rows_at_a_time(layer));
        p->column_blocks = ceil_div(layer->columns + layer->folded, layer->a_size);
        int64_t g = n_gradients + layer->g_tensor, a = n_gradients + layer->a_tensor;
        int64_t scales = n_gradients + layer->scales - 1;
        if (thor_size(n_axes[gradient], shapes[gradient]) != layer->groups * layer->rows * layer->columns ||
            (layer->folded && thor_size(n_axes[gradient + 1], shapes[gradient + 1]) != layer->groups * layer->rows) ||
            a >= place || !has_blocks(n_axes[a], shapes[a], layer->a_first, layer->groups * p->column_blocks,
                                      layer->a_size) ||
            (layer->g_size > 0 && (g >= place || !has_blocks(n_axes[g], shapes[g], layer->g_first,
                                                             layer->groups * p->row_blocks, layer->g_size))) ||
            (layer->scales > 0 &&
             (scales >= place || thor_size(n_axes[scales], shapes[scales]) != layer->groups * layer->rows)))
            return WRONG_SHAPE;
        p->weight = data[gradient], p->weight_out = data[place + 1 + gradient];
        p->bias = layer->folded ? data[gradient + 1] : NULL;
        p->bias_out = layer->folded ? data[place + 2 + gradient] : NULL;
        p->inverses_a = (const float *)data[a] + layer->a_first * layer->a_size * layer->a_size;
        p->inverses_g = layer->g_size > 0 ? (const float *)data[g] + layer->g_first * layer->g_size * layer->g_size
                                          : NULL;
        p->scales = layer->scales > 0 ? (const float *)data[scales] : NULL;
        p->first_piece = pieces;
        pieces += layer->groups * p->row_blocks * p->column_blocks;
        gradient += 1 + (layer->folded != 0);
        p->in_bfloat16 = in_bfloat16;
        scratch = scratch_of(p) > scratch ? scratch_of(p) : scratch;
    }
    struct products products = {all, n_layers};
    return thor_for_each(precondition_block, &products, pieces, (size_t)scratch);
}

KERNEL(Precondition) {
    (void)stream, (void)extra;
    return precondition(n_arguments, data, n_axes, shapes, dtypes, 0);
}

KERNEL(PreconditionInBfloat16) {
    (void)stream, (void)extra;
    return precondition(n_arguments, data, n_axes, shapes, dtypes, 1);
}
