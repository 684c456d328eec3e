/* Blocks of second moments: of rows, of feature maps, and of the im2col rows of images, unfolded a panel at a time. */
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { PANEL = 512 };      /* positions unfolded at a time: with 128 features they stay in the second cache */
enum { LONG = 128 };       /* maps of so many positions are multiplied where they lie */
enum { MOST_PIECES = 8 };  /* blocks are cut into pieces along the positions only where there are fewer of them */
enum { LEAST = 2048 };     /* positions of such a piece */

/* The plan: `size` is that of the largest block; `column` is of the statistics: where it holds 0 nothing is measured; -1 measures always. */
struct plan {
    double scale;
    int64_t groups, size, column, append_one, kernel[2], stride[2], dilation[2], same, padding[4];
};
enum { FIELDS = 16 };

struct covariance {
    const float *x;
    struct plan plan;
    int64_t width;                      /* features of all groups, without appended ones */
    int64_t channels, height, breadth;  /* of images and maps */
    int64_t out[2], positions;          /* of a sample's output */
    int64_t unit, count;                /* positions done at a time, a line of the output or one; how many such */
    int64_t dim, blocks_per_group, n_pieces;
    float *out_blocks, *parts;          /* (n_pieces, n_blocks, size, size) where n_pieces > 1 */
    void (*add)(const struct covariance *, int64_t group, int64_t first, int64_t features, int64_t begin, int64_t end,
                float *block, float *scratch);
};

static const float ONE = 1.0f;

/* Positions for which a panel has room, whole lines. */
static int64_t panel_of(const struct covariance *c) { return c->unit > PANEL ? c->unit : PANEL; }

/* The upper triangle of block += features features', for (features, count) or, transposed, (count, features). */
static void add_second_moment(const char *transposed, const float *x, int64_t stride, int64_t features, int64_t count,
                              float *block, int64_t size) {
    int n = (int)features, k = (int)count, ldx = (int)stride, ldblock = (int)size;
    thor_blas.ssyrk("L", transposed, &n, &k, &ONE, x, &ldx, &ONE, block, &ldblock);
}

static void add_rows(const struct covariance *c, int64_t group, int64_t first, int64_t features, int64_t begin,
                     int64_t end, float *block, float *scratch) {
    (void)scratch;
    add_second_moment("N", c->x + begin * c->width + group * c->dim + first, c->width, features, end - begin, block,
                      c->plan.size);
}

static void add_maps(const struct covariance *c, int64_t group, int64_t first, int64_t features, int64_t begin,
                     int64_t end, float *block, float *scratch) {
    int64_t feature = group * c->dim + first, length;
    for (int64_t p = begin; p < end; p += length) {
        if (c->positions >= LONG) {
            int64_t sample = p / c->positions, offset = p % c->positions;
            length = at_most(c->positions - offset, end - p);
            add_second_moment("T", c->x + (sample * c->width + feature) * c->positions + offset, c->positions, features,
                              length, block, c->plan.size);
            continue;
        }
        length = at_most(PANEL, end - p);
        for (int64_t q = p, run; q < p + length; q += run) { /* sample by sample */
            int64_t sample = q / c->positions, offset = q % c->positions;
            run = at_most(c->positions - offset, p + length - q);
            const float *from = c->x + (sample * c->width + feature) * c->positions + offset;
            for (int64_t i = 0; i < features; i++)
                memcpy(scratch + i * PANEL + (q - p), from + i * c->positions, run * sizeof(float));
        }
        add_second_moment("T", scratch, PANEL, features, length, block, c->plan.size);
    }
}

/* Lines of a map are short: four numbers at a time beat a call of memcpy. */
static inline void copy(float *to, const float *from, int64_t count) {
    for (; count >= 4; count -= 4, to += 4, from += 4)
        memcpy(to, from, 4 * sizeof(float));
    for (; count > 0; count--)
        *to++ = *from++;
}

static inline void clear(float *to, int64_t count) {
    static const float zeros[4] = {0};
    for (; count >= 4; count -= 4, to += 4)
        memcpy(to, zeros, sizeof zeros);
    for (; count > 0; count--)
        *to++ = 0.0f;
}

/* What one place of the kernel sees in output lines begin to end, over all samples: a row of the panel. */
static void unfold(const struct covariance *c, int64_t feature, int64_t group, int64_t begin, int64_t end, float *row) {
    const struct plan *plan = &c->plan;
    int64_t taps = plan->kernel[0] * plan->kernel[1], tap = feature % taps, stride = plan->stride[1];
    int64_t channel = group * (c->channels / plan->groups) + feature / taps, width = c->out[1];
    int64_t down = tap / plan->kernel[1] * plan->dilation[0] - plan->padding[0];
    int64_t right = tap % plan->kernel[1] * plan->dilation[1] - plan->padding[2];
    int64_t left = right < 0 ? at_most(ceil_div(-right, stride), width) : 0; /* of the image, in it, and beyond */
    int64_t inside = right >= c->breadth ? 0 : at_most(ceil_div(c->breadth - right, stride), width) - left;
    inside = inside > 0 ? inside : 0;
    int64_t sample = begin / c->out[0], line = begin % c->out[0];
    for (int64_t i = begin; i < end; i++, row += width) {
        int64_t y = line * plan->stride[0] + down;
        if (y < 0 || y >= c->height) {
            clear(row, width);
        } else {
            const float *from = c->x + ((sample * c->channels + channel) * c->height + y) * c->breadth + right;
            clear(row, left);
            if (stride == 1)
                copy(row + left, from + left, inside);
            else
                for (int64_t k = left; k < left + inside; k++)
                    row[k] = from[k * stride];
            clear(row + left + inside, width - left - inside);
        }
        if (++line == c->out[0])
            line = 0, sample++;
    }
}

static void add_patches(const struct covariance *c, int64_t group, int64_t first, int64_t features, int64_t begin,
                        int64_t end, float *block, float *scratch) {
    int64_t ones = c->plan.append_one && first + features == c->dim, panel = panel_of(c), lines;
    for (int64_t line = begin; line < end; line += lines) {
        lines = at_most(panel / c->unit, end - line);
        for (int64_t i = 0; i < features - ones; i++)
            unfold(c, first + i, group, line, line + lines, scratch + i * panel);
        for (int64_t i = 0; ones && i < lines * c->unit; i++)
            scratch[(features - 1) * panel + i] = 1.0f;
        add_second_moment("T", scratch, panel, features, lines * c->unit, block, c->plan.size);
    }
}

/* Scale the upper triangle, and mirror it. */
static void finish(float *block, int64_t size, int64_t features, float scale) {
    for (int64_t i = 0; i < features; i++)
        for (int64_t j = i; j < features; j++)
            block[j * size + i] = block[i * size + j] *= scale;
}

static void measure_piece(void *context, int64_t index, float *scratch) {
    const struct covariance *c = context;
    int64_t block = index / c->n_pieces, part = index % c->n_pieces, size = c->plan.size;
    int64_t group = block / c->blocks_per_group, first = block % c->blocks_per_group * size;
    int64_t features = at_most(size, c->dim - first);
    int64_t begin = c->count * part / c->n_pieces, end = c->count * (part + 1) / c->n_pieces;
    float *out = (c->n_pieces == 1 ? c->out_blocks : c->parts) + index * size * size;
    memset(out, 0, size * size * sizeof(float));
    c->add(c, group, first, features, begin, end, out, scratch);
    if (c->n_pieces == 1)
        finish(out, size, features, (float)(c->plan.scale / (c->count * c->unit)));
}

/* The order of the sum is that of the pieces, whichever thread had them. */
static void join_pieces(void *context, int64_t block, float *scratch) {
    (void)scratch;
    const struct covariance *c = context;
    int64_t size = c->plan.size, first = block % c->blocks_per_group * size;
    float *out = c->out_blocks + block * size * size, *parts = c->parts + block * c->n_pieces * size * size;
    memcpy(out, parts, size * size * sizeof(float));
    for (int64_t part = 1; part < c->n_pieces; part++)
        for (int64_t i = 0; i < size * size; i++)
            out[i] += parts[part * size * size + i];
    finish(out, size, at_most(size, c->dim - first), (float)(c->plan.scale / (c->count * c->unit)));
}

static int read_plan(int axes, const int64_t *shape, const char *dtype, const double *values, struct plan *plan) {
    if (axes != 1 || shape[0] != FIELDS)
        return WRONG_SHAPE;
    if (strcmp(dtype, "float64") != 0)
        return WRONG_DTYPE;
    int64_t *fields[FIELDS - 1] = {&plan->groups, &plan->size, &plan->column, &plan->append_one, &plan->kernel[0],
                                   &plan->kernel[1], &plan->stride[0], &plan->stride[1], &plan->dilation[0],
                                   &plan->dilation[1], &plan->same, &plan->padding[0], &plan->padding[1],
                                   &plan->padding[2], &plan->padding[3]};
    plan->scale = values[0];
    for (int i = 1; i < FIELDS; i++)
        *fields[i - 1] = (int64_t)values[i];
    return FINE;
}

/* Padding as MindSpore's Conv2d has it, and the output's size. */
static void walk(struct covariance *c) {
    struct plan *plan = &c->plan;
    const int64_t size[2] = {c->height, c->breadth};
    for (int axis = 0; axis < 2; axis++) {
        int64_t extent = plan->dilation[axis] * (plan->kernel[axis] - 1) + 1;
        if (plan->same) {
            int64_t total = (ceil_div(size[axis], plan->stride[axis]) - 1) * plan->stride[axis] + extent - size[axis];
            total = total > 0 ? total : 0;
            plan->padding[2 * axis] = total / 2, plan->padding[2 * axis + 1] = total - total / 2;
        }
        int64_t padded = size[axis] + plan->padding[2 * axis] + plan->padding[2 * axis + 1];
        c->out[axis] = padded < extent ? 0 : (padded - extent) / plan->stride[axis] + 1;
    }
    c->positions = c->out[0] * c->out[1];
}

static int seen_as_it_is(const struct covariance *c) {
    const struct plan *p = &c->plan;
    return p->kernel[0] * p->kernel[1] == 1 && p->stride[0] * p->stride[1] == 1 && !p->append_one &&
           p->padding[0] + p->padding[1] + p->padding[2] + p->padding[3] == 0;
}

/* Fill `c` from x of two (rows), three (maps) or four axes (images). */
static int understand(struct covariance *c, int axes, const int64_t *shape) {
    struct plan *plan = &c->plan;
    if (axes < 2 || axes > 4 || shape[1] < plan->groups)
        return WRONG_SHAPE;
    c->width = c->channels = shape[1];
    c->positions = axes == 3 ? shape[2] : 1;
    int64_t features = c->width / plan->groups;
    c->add = axes == 2 ? add_rows : add_maps;
    if (axes == 4) {
        c->height = shape[2], c->breadth = shape[3];
        walk(c);
        if (!seen_as_it_is(c)) {
            features = features * plan->kernel[0] * plan->kernel[1] + plan->append_one;
            c->add = add_patches;
        }
    }
    c->dim = features;
    c->unit = c->add == add_patches && c->positions > 0 ? c->out[1] : 1;
    c->count = shape[0] * c->positions / c->unit;
    plan->size = at_most(features, plan->size);
    c->blocks_per_group = ceil_div(features, plan->size);
    return c->width % plan->groups == 0 ? FINE : WRONG_SHAPE;
}

/* x, statistics, plan -> (n_blocks, size, size) */
KERNEL(Covariance) {
    (void)stream, (void)extra;
    struct covariance c = {0};
    if (n_arguments != 4)
        return WRONG_COUNT;
    if (!thor_all_float32(2, dtypes) || !thor_all_float32(1, dtypes + 3))
        return WRONG_DTYPE;
    int status = read_plan(n_axes[2], shapes[2], dtypes[2], data[2], &c.plan);
    if (status == FINE)
        status = understand(&c, n_axes[0], shapes[0]);
    int64_t size = c.plan.size, n_blocks = c.plan.groups * c.blocks_per_group;
    if (status == FINE && (n_axes[3] != 3 || shapes[3][0] != n_blocks || shapes[3][1] != size || shapes[3][2] != size ||
                           c.plan.column >= thor_size(n_axes[1], shapes[1])))
        status = WRONG_SHAPE;
    if (status != FINE)
        return status;
    if (thor_blas.ssyrk == NULL)
        return NOT_BOUND;
    c.x = data[0], c.out_blocks = data[3];
    if ((c.plan.column >= 0 && ((const float *)data[1])[c.plan.column] == 0.0f) || c.count == 0) {
        memset(c.out_blocks, 0, n_blocks * size * size * sizeof(float));
        return FINE;
    }
    c.n_pieces = n_blocks >= MOST_PIECES ? 1 : at_most(ceil_div(MOST_PIECES, n_blocks), ceil_div(c.count * c.unit, LEAST));
    if (c.n_pieces > 1 && (c.parts = malloc(c.n_pieces * n_blocks * size * size * sizeof(float))) == NULL)
        return NO_MEMORY;
    size_t scratch = c.add == add_rows ? 0 : (size_t)(size * panel_of(&c));
    status = thor_for_each(measure_piece, &c, n_blocks * c.n_pieces, scratch);
    if (c.n_pieces > 1 && status == FINE)
        status = thor_for_each(join_pieces, &c, n_blocks, 0);
    free(c.parts);
    return status;
}

/* Squares of the im2col rows: every pixel counts as often as it is seen. */
struct seen {
    const float *x;
    int64_t height, breadth;
    const float *of_line, *of_column; /* how often each is seen */
    double *sums;
};

static void count_seen(const struct covariance *c, int axis, int64_t size, float *times) {
    const struct plan *plan = &c->plan;
    memset(times, 0, size * sizeof(float));
    for (int64_t out = 0; out < c->out[axis]; out++)
        for (int64_t tap = 0; tap < plan->kernel[axis]; tap++) {
            int64_t at = out * plan->stride[axis] + tap * plan->dilation[axis] - plan->padding[2 * axis];
            if (at >= 0 && at < size)
                times[at] += 1.0f;
        }
}

static void add_seen(void *context, int64_t plane, float *scratch) {
    (void)scratch;
    struct seen *seen = context;
    const float *x = seen->x + plane * seen->height * seen->breadth;
    double total = 0.0;
    for (int64_t i = 0; i < seen->height; i++) {
        float of_line = 0.0f;
        for (int64_t j = 0; j < seen->breadth; j++)
            of_line += x[i * seen->breadth + j] * x[i * seen->breadth + j] * seen->of_column[j];
        total += (double)of_line * seen->of_line[i];
    }
    seen->sums[plane] = total;
}

/* images, plan -> sum of squares of their im2col rows (1,) */
KERNEL(SquaresOfPatches) {
    (void)stream, (void)extra;
    struct covariance c = {0};
    if (n_arguments != 3)
        return WRONG_COUNT;
    int status = read_plan(n_axes[1], shapes[1], dtypes[1], data[1], &c.plan);
    if (status != FINE || n_axes[0] != 4)
        return status != FINE ? status : WRONG_SHAPE;
    if (!thor_all_float32(1, dtypes) || !thor_all_float32(1, dtypes + 2))
        return WRONG_DTYPE;
    c.height = shapes[0][2], c.breadth = shapes[0][3];
    walk(&c);
    int64_t planes = shapes[0][0] * shapes[0][1];
    float *times = malloc((c.height + c.breadth) * sizeof(float));
    double *sums = malloc(planes * sizeof(double)), total = 0.0;
    if (times == NULL || sums == NULL)
        status = NO_MEMORY;
    if (status == FINE) {
        count_seen(&c, 0, c.height, times), count_seen(&c, 1, c.breadth, times + c.height);
        struct seen seen = {data[0], c.height, c.breadth, times, times + c.height, sums};
        status = thor_for_each(add_seen, &seen, planes, 0);
    }
    for (int64_t plane = 0; plane < planes && status == FINE; plane++)
        total += sums[plane];
    free(times), free(sums);
    ((float *)data[2])[0] = (float)total;
    return status;
}
