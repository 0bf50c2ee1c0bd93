/* Feature steps, sums of decision trees over flattened nodes, and the links that follow them.
 *
 * Bit for bit what numpy, XGBoost and scikit-learn compute: the trees of a row are added one after the other, in the
 * precision of the library that grew them. Compile without -ffast-math and with -ffp-contract=off, or that is not so.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

/* What is done to a row, from `before` columns to `after`. */
enum { RATIOS, IMPUTE, SCALE, PRODUCTS, CLIP };
struct step {
    int64_t kind, before, after;
    const void *first, *second;
};

static int one_step(const struct step *step, const double *x, double *out)
{
    const int64_t before = step->before, more = step->after - before;
    const double *low = step->first, *high = step->second;
    const int32_t *left = step->first, *right = step->second;
    const int missing = step->kind == RATIOS || step->kind == IMPUTE || step->kind == SCALE;
    for (int64_t place = 0; place < before; ++place)
        if (isinf(x[place]) || (!missing && isnan(x[place])))
            return 0;
    switch (step->kind) {
    case RATIOS:
        for (int64_t place = 0; place < before; ++place)
            out[place] = x[place];
        for (int64_t place = 0; place < more; ++place)
            out[before + place] = x[right[place]] != 0 ? x[left[place]] / x[right[place]] : 0.0;
        return 1;
    case IMPUTE:
        for (int64_t place = 0; place < before; ++place)
            out[place] = isnan(x[place]) ? low[place] : x[place];
        return 1;
    case SCALE:
        for (int64_t place = 0; place < before; ++place)
            out[place] = (x[place] - low[place]) / high[place];
        return 1;
    case PRODUCTS:
        for (int64_t place = 0; place < before; ++place)
            out[place] = x[place];
        for (int64_t place = 0; place < more; ++place)
            out[before + place] = x[left[place]] * x[right[place]];
        return 1;
    default:
        for (int64_t place = 0; place < before; ++place) {
            const double raised = x[place] > low[place] ? x[place] : low[place];
            out[place] = raised < high[place] ? raised : high[place];
        }
        return 1;
    }
}

/* All steps over all rows, by way of two rows of `scratch` that are as wide as the widest step; 0 where a value is
 * infinite or missing that may not be. */
int wineexp_steps(const struct step *steps, int64_t count, const double *x, int64_t rows, double *out,
                  double *scratch, int64_t widest)
{
    const int64_t before = steps[0].before, after = steps[count - 1].after;
    for (int64_t row = 0; row < rows; ++row) {
        const double *from = x + row * before;
        for (int64_t number = 0; number < count; ++number) {
            double *to = number == count - 1 ? out + row * after : scratch + (number % 2) * widest;
            if (!one_step(steps + number, from, to))
                return 0;
            from = to;
        }
    }
    return 1;
}

/* The left child is so many nodes ahead, and the right one follows it. A leaf asks for the column behind the last,
 * which holds minus infinity, and so leads to itself; its threshold is its value, or, where it has several, their
 * place. */
struct node32 { float threshold; uint16_t column, ahead; };
struct node64 { double threshold; uint32_t column, ahead; };

/* The same in short, for trees that have few leaves and ask for columns with few thresholds: the place of a threshold
 * among those of its column, and whither the split leads, which is leaf LEAVES - 1 at most, or LEAVES and the number of
 * a split further on. */
#define LEAVES 128
#define RANKED 256
struct split { uint8_t column, rank, left, right; };

/* Trees of one precision, of which each is as deep as `depths` says. A tree adds `width` values, the first of them to
 * the output `group`. In short it has `sizes` splits from `first_splits` on, or -1, where it has no short form. `leaves`
 * holds what a leaf's threshold would, `limits` the thresholds of each column in ascending order. */
struct trees {
    const void *nodes;
    const uint8_t *missing_left;
    const void *values;
    const int32_t *roots, *depths, *groups;
    const struct split *splits;
    const int32_t *sizes, *first_splits, *first_leaves;
    const void *leaves, *limits;
    const int32_t *first_limits;
    int64_t count, width, columns, outputs, ranked;
};

/* Rows that go through a tree before the next one, and trees that a row goes through at once: so that several answers
 * of the memory are awaited at a time. */
#define BLOCK 64

/* Rows for which it is worth while to ask a whole block. */
#define FEW 16

/* Where each row of a block ends that comes to a split, by its rank in the split's column and by where it would end on
 * either side. Compilers make vectors of it. */
static inline void choose(uint8_t *restrict ends, const uint8_t *restrict ranks, uint8_t rank,
                          const uint8_t *restrict left, const uint8_t *restrict right)
{
    for (int row = 0; row < BLOCK; ++row) {
        const uint8_t beyond = ranks[row] > rank ? 255 : 0;
        ends[row] = (right[row] & beyond) | (left[row] & ~beyond);
    }
}

/* In which leaf each row of a block ends: every split is asked, those further on first. */
static const uint8_t *end(const struct split *splits, int32_t count, uint8_t (*ranks)[BLOCK], uint8_t (*ends)[BLOCK])
{
    for (int32_t number = count - 1; number >= 0; --number) {
        const struct split split = splits[number];
        choose(ends[LEAVES + number], ranks[split.column], split.rank, ends[split.left], ends[split.right]);
    }
    return ends[count ? LEAVES : 0];
}

#define LANES 12
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)

#define SUM(NAME, REAL, NODE, LESS)                                                                                 \
    static inline void NAME##_add(const struct trees *trees, int64_t tree, REAL told, REAL *out)                    \
    {                                                                                                               \
        REAL *sums = out + trees->groups[tree];                                                                     \
        if (trees->width == 1) {                                                                                    \
            sums[0] += told;                                                                                        \
            return;                                                                                                 \
        }                                                                                                           \
        const REAL *values = (const REAL *)trees->values + (int64_t)told * trees->width;                            \
        for (int64_t place = 0; place < trees->width; ++place)                                                      \
            sums[place] += values[place];                                                                           \
    }                                                                                                               \
                                                                                                                    \
    /* One tree, for any row. */                                                                                    \
    static void NAME##_one(const struct trees *trees, int64_t tree, const REAL *cells, REAL *out)                   \
    {                                                                                                               \
        const struct NODE *nodes = trees->nodes, *node = nodes + trees->roots[tree];                                \
        while (node->ahead) {                                                                                       \
            const REAL cell = cells[node->column];                                                                  \
            const int goes_left = cell != cell ? trees->missing_left[node - nodes] : cell LESS node->threshold;     \
            node += node->ahead + !goes_left;                                                                       \
        }                                                                                                           \
        NAME##_add(trees, tree, node->threshold, out);                                                              \
    }                                                                                                               \
                                                                                                                    \
    /* LANES trees, for a row without missing values. */                                                            \
    static void NAME##_some(const struct trees *trees, int64_t first, const REAL *cells, REAL *out)                 \
    {                                                                                                               \
        const struct NODE *nodes = trees->nodes;                                                                    \
        int32_t depth = 0;                                                                                          \
        EACH(NAME##_START)                                                                                          \
        for (; depth > 0; --depth) {                                                                                \
            EACH(NAME##_STEP)                                                                                       \
        }                                                                                                           \
        if (trees->width > 1) {                                                                                     \
            EACH(NAME##_ENDS)                                                                                       \
            return;                                                                                                 \
        }                                                                                                           \
        const int32_t *groups = trees->groups + first;                                                              \
        EACH(NAME##_END)                                                                                            \
    }                                                                                                               \
                                                                                                                    \
    /* All trees, for a block of rows. */                                                                           \
    static void NAME##_walk(const struct trees *trees, const REAL *cells, const int *whole, int64_t rows, REAL *out)\
    {                                                                                                               \
        for (int64_t first = 0; first < trees->count; first += LANES)                                               \
            for (int64_t row = 0; row < rows; ++row) {                                                              \
                const REAL *asked = cells + row * (trees->columns + 1);                                             \
                REAL *sums = out + row * trees->outputs;                                                            \
                if (whole[row] && first + LANES <= trees->count)                                                    \
                    NAME##_some(trees, first, asked, sums);                                                         \
                else                                                                                                \
                    for (int64_t tree = first; tree < first + LANES && tree < trees->count; ++tree)                 \
                        NAME##_one(trees, tree, asked, sums);                                                       \
            }                                                                                                       \
    }                                                                                                               \
                                                                                                                    \
    /* How many thresholds of its column send a value to the right. */                                              \
    static inline uint8_t NAME##_rank(const REAL *limits, uint32_t count, REAL cell)                                \
    {                                                                                                               \
        const REAL *from = limits;                                                                                  \
        for (uint32_t half; (half = count / 2); count -= half)                                                      \
            from += half & -(uint32_t)!(cell LESS from[half - 1]);                                                  \
        return (uint8_t)(from - limits + !(cell LESS *from));                                                       \
    }                                                                                                               \
                                                                                                                    \
    /* The same for a block without missing values, each tree for all its rows at once. */                          \
    static void NAME##_block(const struct trees *trees, const REAL *cells, int64_t rows, REAL *out,                 \
                             uint8_t (*ends)[BLOCK])                                                                \
    {                                                                                                               \
        uint8_t ranks[RANKED][BLOCK];                                                                               \
        const int64_t wide = trees->columns + 1;                                                                    \
        for (int64_t column = 0; column < trees->ranked; ++column) {                                                \
            const int32_t first = trees->first_limits[column], count = trees->first_limits[column + 1] - first;     \
            for (int64_t row = 0; count && row < rows; ++row)                                                       \
                ranks[column][row] =                                                                                \
                    NAME##_rank((const REAL *)trees->limits + first, count, cells[row * wide + column]);            \
        }                                                                                                           \
        for (int64_t tree = 0; tree < trees->count; ++tree)                                                         \
            if (trees->sizes[tree] >= 0) {                                                                          \
                const REAL *leaves = (const REAL *)trees->leaves + trees->first_leaves[tree];                       \
                const uint8_t *found =                                                                              \
                    end(trees->splits + trees->first_splits[tree], trees->sizes[tree], ranks, ends);                \
                REAL *sums = out + trees->groups[tree];                                                             \
                if (trees->width == 1)                                                                              \
                    for (int64_t row = 0; row < rows; ++row)                                                        \
                        sums[row * trees->outputs] += leaves[found[row]];                                           \
                else                                                                                                \
                    for (int64_t row = 0; row < rows; ++row)                                                        \
                        NAME##_add(trees, tree, leaves[found[row]], out + row * trees->outputs);                    \
            } else {                                                                                                \
                for (int64_t row = 0; row < rows; ++row)                                                            \
                    NAME##_one(trees, tree, cells + row * wide, out + row * trees->outputs);                        \
            }                                                                                                       \
    }                                                                                                               \
                                                                                                                    \
    /* `cells` has room for a block of rows, each of them with one column more. */                                  \
    void NAME(const struct trees *trees, const double *x, int64_t rows, REAL *out, REAL *cells)                     \
    {                                                                                                               \
        const int64_t columns = trees->columns, wide = columns + 1;                                                 \
        uint8_t ends[2 * LEAVES][BLOCK];                                                                            \
        if (trees->ranked && rows >= FEW)                                                                           \
            for (int leaf = 0; leaf < LEAVES; ++leaf)                                                               \
                memset(ends[leaf], leaf, BLOCK);                                                                    \
        for (int64_t start = 0; start < rows; start += BLOCK) {                                                     \
            const int64_t some = start + BLOCK < rows ? BLOCK : rows - start;                                       \
            int whole[BLOCK], all = 1;                                                                              \
            for (int64_t row = 0; row < some; ++row) {                                                              \
                whole[row] = 1;                                                                                     \
                for (int64_t column = 0; column < columns; ++column) {                                              \
                    const REAL cell = (REAL)x[(start + row) * columns + column];                                    \
                    cells[row * wide + column] = cell;                                                              \
                    whole[row] &= cell == cell;                                                                     \
                }                                                                                                   \
                cells[row * wide + columns] = -INFINITY;                                                            \
                all &= whole[row];                                                                                  \
            }                                                                                                       \
            REAL *sums = out + start * trees->outputs;                                                              \
            if (trees->ranked && some >= FEW && all)                                                                \
                NAME##_block(trees, cells, some, sums, ends);                                                       \
            else                                                                                                    \
                NAME##_walk(trees, cells, whole, some, sums);                                                       \
        }                                                                                                           \
    }

#define START(NODE, LANE)                                                                                           \
    const struct NODE *node##LANE = nodes + trees->roots[first + LANE];                                             \
    depth = depth > trees->depths[first + LANE] ? depth : trees->depths[first + LANE];
#define STEP(LANE, LESS) node##LANE += node##LANE->ahead + !(cells[node##LANE->column] LESS node##LANE->threshold);
#define END(LANE) out[groups[LANE]] += node##LANE->threshold;
#define ENDS(NAME, LANE) NAME##_add(trees, first + LANE, node##LANE->threshold, out);

#define wineexp_sum32_START(LANE) START(node32, LANE)
#define wineexp_sum32_STEP(LANE) STEP(LANE, <)
#define wineexp_sum32_END(LANE) END(LANE)
#define wineexp_sum32_ENDS(LANE) ENDS(wineexp_sum32, LANE)
#define wineexp_sum64_START(LANE) START(node64, LANE)
#define wineexp_sum64_STEP(LANE) STEP(LANE, <=)
#define wineexp_sum64_END(LANE) END(LANE)
#define wineexp_sum64_ENDS(LANE) ENDS(wineexp_sum64, LANE)

SUM(wineexp_sum32, float, node32, <)
SUM(wineexp_sum64, double, node64, <=)

/* In place, as XGBoost does it: exponentials in single precision, their sum in double. */
void wineexp_softmax32(float *out, int64_t rows, int64_t outputs)
{
    for (float *row = out; row < out + rows * outputs; row += outputs) {
        float largest = row[0];
        for (int64_t place = 1; place < outputs; ++place)
            largest = fmaxf(row[place], largest);
        double sum = 0.0;
        for (int64_t place = 0; place < outputs; ++place) {
            row[place] = expf(row[place] - largest);
            sum += row[place];
        }
        for (int64_t place = 0; place < outputs; ++place)
            row[place] /= (float)sum;
    }
}

/* In place, as XGBoost does it: the largest exponent is the one whose exponential single precision holds. */
void wineexp_sigmoid32(float *out, int64_t count)
{
    for (int64_t place = 0; place < count; ++place)
        out[place] = 1.0f / (expf(fminf(-out[place], 88.7f)) + 1.0f + 1e-16f);
}

/* In place, as SciPy does it. */
void wineexp_sigmoid64(double *out, int64_t count)
{
    for (int64_t place = 0; place < count; ++place)
        out[place] = 1.0 / (1.0 + exp(-out[place]));
}

/* As numpy adds up to 128 neighbours. */
static double numpy_sum(const double *x, int64_t count)
{
    double sum = 0.0;
    int64_t place = 0;
    if (count >= 8) {
        double lanes[8];
        for (; place < 8; ++place)
            lanes[place] = x[place];
        for (; place + 8 <= count; place += 8)
            for (int64_t lane = 0; lane < 8; ++lane)
                lanes[lane] += x[place + lane];
        sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    }
    for (; place < count; ++place)
        sum += x[place];
    return sum;
}

/* One row from its values to its probabilities, through steps and XGBoost's trees. */
struct row {
    const struct step *steps;
    const struct trees *trees;
    const float *base;
    const int32_t *present;
    int64_t count, widest, shares, classes;
};

int wineexp_row(const struct row *form, const double *x, double *out)
{
    const int64_t outputs = form->trees->outputs;
    double scratch[2 * form->widest], shares[form->shares];
    float cells[form->trees->columns + 1], sums[outputs];
    for (int64_t number = 0; number < form->count; ++number) {
        double *to = scratch + (number % 2) * form->widest;
        if (!one_step(form->steps + number, x, to))
            return 0;
        x = to;
    }
    for (int64_t place = 0; place < outputs; ++place)
        sums[place] = form->base[place];
    wineexp_sum32(form->trees, x, 1, sums, cells);
    if (outputs > 1) {
        wineexp_softmax32(sums, 1, outputs);
        for (int64_t place = 0; place < outputs; ++place)
            shares[place] = sums[place];
    } else {
        wineexp_sigmoid32(sums, 1);
        shares[0] = 1.0f - sums[0];
        shares[1] = sums[0];
    }
    const double sum = numpy_sum(shares, form->shares);
    for (int64_t place = 0; place < form->classes; ++place)
        out[place] = 0.0;
    for (int64_t place = 0; place < form->shares; ++place)
        out[form->present[place]] = shares[place] / sum;
    return 1;
}
