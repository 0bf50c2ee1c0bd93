/* Feature transformers, sums over decision trees, and link functions, for compiled models.
 *
 * The results equal those of numpy, XGBoost and scikit-learn bit for bit: the trees of a row are added one after the
 * other, in the precision of the library that trained them. This holds only without -ffast-math and with
 * -ffp-contract=off.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

/* A transformer of rows with n_in columns into rows with n_out columns. The order of the kinds is that of KINDS in
 * kernel_calls.py; what the two arrays hold depends on the kind. */
enum { RATIOS, IMPUTE, SCALE, PRODUCTS, CLIP };
struct transformer {
    int64_t kind, n_in, n_out;
    const void *first, *second;
};

/* Transform one row; returns 0 where a value is infinite, or missing although the transformer does not allow it. */
static int transform_row(const struct transformer *transformer, const double *x, double *out)
{
    const int64_t n_in = transformer->n_in, n_added = transformer->n_out - n_in;
    const double *low = transformer->first, *high = transformer->second;
    const int32_t *left = transformer->first, *right = transformer->second;
    const int kind = transformer->kind, allows_missing = kind == RATIOS || kind == IMPUTE || kind == SCALE;
    for (int64_t i = 0; i < n_in; ++i)
        if (isinf(x[i]) || (!allows_missing && isnan(x[i])))
            return 0;
    switch (kind) {
    case RATIOS:
        for (int64_t i = 0; i < n_in; ++i)
            out[i] = x[i];
        for (int64_t i = 0; i < n_added; ++i)
            out[n_in + i] = x[right[i]] != 0 ? x[left[i]] / x[right[i]] : 0.0;
        return 1;
    case IMPUTE:
        for (int64_t i = 0; i < n_in; ++i)
            out[i] = isnan(x[i]) ? low[i] : x[i];
        return 1;
    case SCALE:
        for (int64_t i = 0; i < n_in; ++i)
            out[i] = (x[i] - low[i]) / high[i];
        return 1;
    case PRODUCTS:
        for (int64_t i = 0; i < n_in; ++i)
            out[i] = x[i];
        for (int64_t i = 0; i < n_added; ++i)
            out[n_in + i] = x[left[i]] * x[right[i]];
        return 1;
    default:
        for (int64_t i = 0; i < n_in; ++i) {
            const double raised = x[i] > low[i] ? x[i] : low[i];
            out[i] = raised < high[i] ? raised : high[i];
        }
        return 1;
    }
}

/* Apply transformers one after the other to all rows. `scratch` has room for two rows of the widest transformer's
 * n_out. Returns 0 where a value is infinite, or missing although a transformer does not allow it. */
int wineexp_transform(const struct transformer *transformers, int64_t n_transformers, const double *x, int64_t n_rows,
                      double *out, double *scratch, int64_t widest)
{
    const int64_t n_in = transformers[0].n_in, n_out = transformers[n_transformers - 1].n_out;
    for (int64_t row = 0; row < n_rows; ++row) {
        const double *from = x + row * n_in;
        for (int64_t i = 0; i < n_transformers; ++i) {
            double *to = i == n_transformers - 1 ? out + row * n_out : scratch + (i % 2) * widest;
            if (!transform_row(transformers + i, from, to))
                return 0;
            from = to;
        }
    }
    return 1;
}

/* A node of a tree. Its left child lies left_offset nodes further on, and the right child follows the left one. A leaf
 * has offset 0 and compares the extra column behind the last one, which holds minus infinity, so that it leads to
 * itself. The threshold of a leaf is its value, or, where leaves have several values, the index of their row. */
struct node32 { float threshold; uint16_t column, left_offset; };
struct node64 { double threshold; uint32_t column, left_offset; };

/* A split with its threshold replaced by its rank among the thresholds of its column, so that everything fits into
 * bytes. `left` and `right` are leaf numbers below MAX_LEAVES, or MAX_LEAVES plus the number of a later split. */
#define MAX_LEAVES 128
#define MAX_RANKS 256
#define MAX_RANKED_COLUMNS 256
struct split { uint8_t column, rank, left, right; };

/* Trees of one precision. Tree i has depth depths[i] and adds values_per_leaf values to the outputs from groups[i] on.
 * It has n_splits[i] ranked splits from first_splits[i] on; n_splits[i] is -1 where the tree has too many leaves or
 * thresholds for ranks. `leaves` holds the threshold of each leaf (as in struct node32), `thresholds` those of each
 * ranked column in ascending order. */
struct trees {
    const void *nodes;
    const uint8_t *missing_left;
    const void *values;
    const int32_t *roots, *depths, *groups;
    const struct split *splits;
    const int32_t *n_splits, *first_splits, *first_leaves;
    const void *leaves, *thresholds;
    const int32_t *first_thresholds;
    int64_t n_trees, values_per_leaf, n_columns, n_outputs, n_ranked_columns;
};

/* Rows that are processed together, tree by tree, so that the tree's nodes stay in the cache. */
#define BLOCK_ROWS 64

/* The fewest rows for which evaluating every split of a tree for a whole block is faster than descending row by row. */
#define MIN_BLOCK_ROWS 16

/* For each row of a block, the leaf that it reaches from a split, from its rank in the split's column and the leaves
 * that it would reach from the left and the right child. Free of branches, so that compilers vectorize it. */
static inline void evaluate_split(uint8_t *restrict reached, const uint8_t *restrict ranks, uint8_t rank,
                                  const uint8_t *restrict left, const uint8_t *restrict right)
{
    for (int row = 0; row < BLOCK_ROWS; ++row) {
        const uint8_t goes_right = ranks[row] > rank ? 255 : 0;
        reached[row] = (right[row] & goes_right) | (left[row] & ~goes_right);
    }
}

/* For each row of a block, the leaf that it reaches in one tree: every split is evaluated, children first. */
static const uint8_t *find_leaves(const struct split *splits, int32_t n_splits, uint8_t (*ranks)[BLOCK_ROWS],
                                  uint8_t (*reached)[BLOCK_ROWS])
{
    for (int32_t i = n_splits - 1; i >= 0; --i) {
        const struct split split = splits[i];
        evaluate_split(reached[MAX_LEAVES + i], ranks[split.column], split.rank, reached[split.left],
                       reached[split.right]);
    }
    return reached[n_splits ? MAX_LEAVES : 0];
}

/* Trees that one row descends at the same time, so that several reads of memory overlap. */
#define LANES 12
#define EACH_LANE(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)

/* The functions for one precision: REAL and NODE are its types, LESS is the comparison that sends a value left. */
#define SUM(NAME, REAL, NODE, LESS)                                                                                  \
    /* Add the values of a leaf, of which `leaf` is the threshold. */                                                \
    static inline void NAME##_add_leaf(const struct trees *trees, int64_t tree, REAL leaf, REAL *out)                \
    {                                                                                                                \
        REAL *sums = out + trees->groups[tree];                                                                      \
        if (trees->values_per_leaf == 1) {                                                                           \
            sums[0] += leaf;                                                                                         \
            return;                                                                                                  \
        }                                                                                                            \
        const REAL *values = (const REAL *)trees->values + (int64_t)leaf * trees->values_per_leaf;                   \
        for (int64_t i = 0; i < trees->values_per_leaf; ++i)                                                         \
            sums[i] += values[i];                                                                                    \
    }                                                                                                                \
                                                                                                                     \
    /* One tree, for a row that may have missing values. */                                                          \
    static void NAME##_one_tree(const struct trees *trees, int64_t tree, const REAL *cells, REAL *out)               \
    {                                                                                                                \
        const struct NODE *nodes = trees->nodes, *node = nodes + trees->roots[tree];                                 \
        while (node->left_offset) {                                                                                  \
            const REAL cell = cells[node->column];                                                                   \
            const int goes_left = cell != cell ? trees->missing_left[node - nodes] : cell LESS node->threshold;      \
            node += node->left_offset + !goes_left;                                                                  \
        }                                                                                                            \
        NAME##_add_leaf(trees, tree, node->threshold, out);                                                          \
    }                                                                                                                \
                                                                                                                     \
    /* LANES trees from `first` on, for a row without missing values. */                                             \
    static void NAME##_lanes(const struct trees *trees, int64_t first, const REAL *cells, REAL *out)                 \
    {                                                                                                                \
        const struct NODE *nodes = trees->nodes;                                                                     \
        int32_t depth = 0;                                                                                           \
        EACH_LANE(NAME##_START)                                                                                      \
        for (; depth > 0; --depth) {                                                                                 \
            EACH_LANE(NAME##_DESCEND)                                                                                \
        }                                                                                                            \
        if (trees->values_per_leaf > 1) {                                                                            \
            EACH_LANE(NAME##_ADD_VALUES)                                                                             \
            return;                                                                                                  \
        }                                                                                                            \
        const int32_t *groups = trees->groups + first;                                                               \
        EACH_LANE(NAME##_ADD_VALUE)                                                                                  \
    }                                                                                                                \
                                                                                                                     \
    /* All trees, for a block of rows, each row descending by itself; complete[row] is 0 where a value is missing. */\
    static void NAME##_by_row(const struct trees *trees, const REAL *cells, const int *complete, int64_t n_rows,     \
                              REAL *out)                                                                             \
    {                                                                                                                \
        for (int64_t first = 0; first < trees->n_trees; first += LANES)                                              \
            for (int64_t row = 0; row < n_rows; ++row) {                                                             \
                const REAL *row_cells = cells + row * (trees->n_columns + 1);                                        \
                REAL *sums = out + row * trees->n_outputs;                                                           \
                if (complete[row] && first + LANES <= trees->n_trees)                                                \
                    NAME##_lanes(trees, first, row_cells, sums);                                                     \
                else                                                                                                 \
                    for (int64_t tree = first; tree < first + LANES && tree < trees->n_trees; ++tree)                \
                        NAME##_one_tree(trees, tree, row_cells, sums);                                               \
            }                                                                                                        \
    }                                                                                                                \
                                                                                                                     \
    /* How many thresholds of its column send a value to the right, by binary search. */                             \
    static inline uint8_t NAME##_rank(const REAL *thresholds, uint32_t count, REAL cell)                             \
    {                                                                                                                \
        const REAL *from = thresholds;                                                                               \
        for (uint32_t half; (half = count / 2); count -= half)                                                       \
            from += half & -(uint32_t)!(cell LESS from[half - 1]);                                                   \
        return (uint8_t)(from - thresholds + !(cell LESS *from));                                                    \
    }                                                                                                                \
                                                                                                                     \
    /* All trees, for a block of rows without missing values, each tree for all rows at once. */                     \
    static void NAME##_by_tree(const struct trees *trees, const REAL *cells, int64_t n_rows, REAL *out,              \
                               uint8_t (*reached)[BLOCK_ROWS])                                                       \
    {                                                                                                                \
        uint8_t ranks[MAX_RANKED_COLUMNS][BLOCK_ROWS];                                                               \
        const int64_t stride = trees->n_columns + 1;                                                                 \
        for (int64_t column = 0; column < trees->n_ranked_columns; ++column) {                                       \
            const int32_t first = trees->first_thresholds[column];                                                   \
            const int32_t count = trees->first_thresholds[column + 1] - first;                                       \
            for (int64_t row = 0; count && row < n_rows; ++row)                                                      \
                ranks[column][row] =                                                                                 \
                    NAME##_rank((const REAL *)trees->thresholds + first, count, cells[row * stride + column]);       \
        }                                                                                                            \
        for (int64_t tree = 0; tree < trees->n_trees; ++tree)                                                        \
            if (trees->n_splits[tree] >= 0) {                                                                        \
                const REAL *leaves = (const REAL *)trees->leaves + trees->first_leaves[tree];                        \
                const uint8_t *numbers = find_leaves(trees->splits + trees->first_splits[tree],                      \
                                                     trees->n_splits[tree], ranks, reached);                         \
                REAL *sums = out + trees->groups[tree];                                                              \
                if (trees->values_per_leaf == 1)                                                                     \
                    for (int64_t row = 0; row < n_rows; ++row)                                                       \
                        sums[row * trees->n_outputs] += leaves[numbers[row]];                                        \
                else                                                                                                 \
                    for (int64_t row = 0; row < n_rows; ++row)                                                       \
                        NAME##_add_leaf(trees, tree, leaves[numbers[row]], out + row * trees->n_outputs);            \
            } else {                                                                                                 \
                for (int64_t row = 0; row < n_rows; ++row)                                                           \
                    NAME##_one_tree(trees, tree, cells + row * stride, out + row * trees->n_outputs);                \
            }                                                                                                        \
    }                                                                                                                \
                                                                                                                     \
    /* Add the trees' values to `out`, of shape (n_rows, n_outputs). `cells` has room for a block of rows with one   \
     * column more than x. */                                                                                        \
    void NAME(const struct trees *trees, const double *x, int64_t n_rows, REAL *out, REAL *cells)                    \
    {                                                                                                                \
        const int64_t n_columns = trees->n_columns, stride = n_columns + 1;                                          \
        uint8_t reached[2 * MAX_LEAVES][BLOCK_ROWS];                                                                 \
        if (trees->n_ranked_columns && n_rows >= MIN_BLOCK_ROWS)                                                     \
            for (int leaf = 0; leaf < MAX_LEAVES; ++leaf)                                                            \
                memset(reached[leaf], leaf, BLOCK_ROWS);                                                             \
        for (int64_t start = 0; start < n_rows; start += BLOCK_ROWS) {                                               \
            const int64_t n_block = start + BLOCK_ROWS < n_rows ? BLOCK_ROWS : n_rows - start;                       \
            int complete[BLOCK_ROWS], all_complete = 1;                                                              \
            for (int64_t row = 0; row < n_block; ++row) {                                                            \
                complete[row] = 1;                                                                                   \
                for (int64_t column = 0; column < n_columns; ++column) {                                             \
                    const REAL cell = (REAL)x[(start + row) * n_columns + column];                                   \
                    cells[row * stride + column] = cell;                                                             \
                    complete[row] &= cell == cell;                                                                   \
                }                                                                                                    \
                cells[row * stride + n_columns] = -INFINITY;                                                         \
                all_complete &= complete[row];                                                                       \
            }                                                                                                        \
            REAL *sums = out + start * trees->n_outputs;                                                             \
            if (trees->n_ranked_columns && n_block >= MIN_BLOCK_ROWS && all_complete)                                \
                NAME##_by_tree(trees, cells, n_block, sums, reached);                                                \
            else                                                                                                     \
                NAME##_by_row(trees, cells, complete, n_block, sums);                                                \
        }                                                                                                            \
    }

#define START(NODE, LANE)                                                                                            \
    const struct NODE *node##LANE = nodes + trees->roots[first + LANE];                                              \
    depth = depth > trees->depths[first + LANE] ? depth : trees->depths[first + LANE];
#define DESCEND(LANE, LESS)                                                                                          \
    node##LANE += node##LANE->left_offset + !(cells[node##LANE->column] LESS node##LANE->threshold);
#define ADD_VALUE(LANE) out[groups[LANE]] += node##LANE->threshold;
#define ADD_VALUES(NAME, LANE) NAME##_add_leaf(trees, first + LANE, node##LANE->threshold, out);

#define wineexp_sum32_START(LANE) START(node32, LANE)
#define wineexp_sum32_DESCEND(LANE) DESCEND(LANE, <)
#define wineexp_sum32_ADD_VALUE(LANE) ADD_VALUE(LANE)
#define wineexp_sum32_ADD_VALUES(LANE) ADD_VALUES(wineexp_sum32, LANE)
#define wineexp_sum64_START(LANE) START(node64, LANE)
#define wineexp_sum64_DESCEND(LANE) DESCEND(LANE, <=)
#define wineexp_sum64_ADD_VALUE(LANE) ADD_VALUE(LANE)
#define wineexp_sum64_ADD_VALUES(LANE) ADD_VALUES(wineexp_sum64, LANE)

/* XGBoost sends smaller values left, scikit-learn equal ones as well. */
SUM(wineexp_sum32, float, node32, <)
SUM(wineexp_sum64, double, node64, <=)

/* Softmax of each row in place, as XGBoost computes it: exponentials in single precision, their sum in double. */
void wineexp_softmax32(float *out, int64_t n_rows, int64_t n_outputs)
{
    for (float *row = out; row < out + n_rows * n_outputs; row += n_outputs) {
        float largest = row[0];
        for (int64_t i = 1; i < n_outputs; ++i)
            largest = fmaxf(row[i], largest);
        double sum = 0.0;
        for (int64_t i = 0; i < n_outputs; ++i) {
            row[i] = expf(row[i] - largest);
            sum += row[i];
        }
        for (int64_t i = 0; i < n_outputs; ++i)
            row[i] /= (float)sum;
    }
}

/* Softmax of each row in place, as LightGBM computes it. */
void wineexp_softmax64(double *out, int64_t n_rows, int64_t n_outputs)
{
    for (double *row = out; row < out + n_rows * n_outputs; row += n_outputs) {
        double largest = row[0], sum = 0.0;
        for (int64_t i = 1; i < n_outputs; ++i)
            largest = fmax(row[i], largest);
        for (int64_t i = 0; i < n_outputs; ++i) {
            row[i] = exp(row[i] - largest);
            sum += row[i];
        }
        for (int64_t i = 0; i < n_outputs; ++i)
            row[i] /= sum;
    }
}

/* Sigmoid in place, as XGBoost computes it: the exponent is at most 88.7, of which the exponential is a finite float. */
void wineexp_sigmoid32(float *out, int64_t count)
{
    for (int64_t i = 0; i < count; ++i)
        out[i] = 1.0f / (expf(fminf(-out[i], 88.7f)) + 1.0f + 1e-16f);
}

/* Sigmoid in place, as SciPy and LightGBM compute it. */
void wineexp_sigmoid64(double *out, int64_t count)
{
    for (int64_t i = 0; i < count; ++i)
        out[i] = 1.0 / (1.0 + exp(-out[i]));
}

/* The sums over support vectors with radial basis functions, in libsvm's order, for rows with squared distances from
 * all vectors, which are overwritten. The vectors of class i are those from bounds[i] to bounds[i + 1]; `weights` has a
 * row of n_vectors for each class but the first, or one for a regression, which has a single class. `out` has an output
 * for each pair of classes, or one. */
void wineexp_sum_support_vectors(double *distances, const double *weights, const double *offsets,
                                 const int64_t *bounds, double gamma, int64_t n_rows, int64_t n_vectors,
                                 int64_t n_classes, double *out)
{
    for (int64_t row = 0; row < n_rows; ++row) {
        double *similarities = distances + row * n_vectors;
        for (int64_t i = 0; i < n_vectors; ++i)
            similarities[i] = exp(-gamma * similarities[i]);
        if (n_classes == 1) {
            double sum = 0.0;
            for (int64_t i = 0; i < n_vectors; ++i)
                sum += weights[i] * similarities[i];
            *out++ = sum + offsets[0];
        }
        int64_t pair = 0;
        for (int64_t first = 0; first < n_classes; ++first)
            for (int64_t second = first + 1; second < n_classes; ++second) {
                const double *of_first = weights + (second - 1) * n_vectors, *of_second = weights + first * n_vectors;
                double sum = 0.0;
                for (int64_t i = bounds[first]; i < bounds[first + 1]; ++i)
                    sum += of_first[i] * similarities[i];
                for (int64_t i = bounds[second]; i < bounds[second + 1]; ++i)
                    sum += of_second[i] * similarities[i];
                *out++ = sum + offsets[pair++];
            }
    }
}

/* A k-d tree of training rows, as in neighbours.py. Distances are to the power of the exponent, 1 or 2. */
struct neighbour_tree {
    const double *rows;
    const int64_t *numbers, *begins, *ends;
    const uint8_t *is_leaf;
    const double *low, *high;
    double exponent;
    int64_t n_columns, n_neighbours;
};

/* Replace the greatest of `size` distances, which is in front of a heap, by a lesser one. */
static void push_neighbour(double *distances, int64_t *numbers, int64_t size, double distance, int64_t number)
{
    if (distance >= distances[0])
        return;
    int64_t place = 0;
    for (int64_t child; (child = 2 * place + 1) < size; place = child) {
        if (child + 1 < size && distances[child] < distances[child + 1])
            ++child;
        if (distances[child] <= distance)
            break;
        distances[place] = distances[child];
        numbers[place] = numbers[child];
    }
    distances[place] = distance;
    numbers[place] = number;
}

/* The distance of a row from the box of a node. The power is the C library's, as the compiler of scikit-learn
 * does not know the exponent either. */
static double least_distance(const struct neighbour_tree *tree, int64_t node, const double *x)
{
    const double *low = tree->low + node * tree->n_columns, *high = tree->high + node * tree->n_columns;
    double sum = 0.0;
    for (int64_t i = 0; i < tree->n_columns; ++i) {
        const double below = low[i] - x[i], above = x[i] - high[i];
        sum += pow(0.5 * ((below + fabs(below)) + (above + fabs(above))), tree->exponent);
    }
    return sum;
}

static void visit_node(const struct neighbour_tree *tree, int64_t node, const double *x, double least,
                       double *distances, int64_t *numbers)
{
    if (least > distances[0])
        return;
    if (tree->is_leaf[node]) {
        for (int64_t row = tree->begins[node]; row < tree->ends[node]; ++row) {
            const double *cells = tree->rows + row * tree->n_columns;
            double sum = 0.0;
            for (int64_t i = 0; i < tree->n_columns; ++i) {
                const double difference = x[i] - cells[i];
                sum += tree->exponent == 1 ? fabs(difference) : difference * difference;
            }
            push_neighbour(distances, numbers, tree->n_neighbours, sum, tree->numbers[row]);
        }
        return;
    }
    const int64_t left = 2 * node + 1, right = left + 1;
    const double least_left = least_distance(tree, left, x), least_right = least_distance(tree, right, x);
    if (least_left <= least_right) {
        visit_node(tree, left, x, least_left, distances, numbers);
        visit_node(tree, right, x, least_right, distances, numbers);
    } else {
        visit_node(tree, right, x, least_right, distances, numbers);
        visit_node(tree, left, x, least_left, distances, numbers);
    }
}

/* The distances and numbers of the nearest training rows of each row, as heaps. All distances are infinite, and
 * all numbers 0, before. */
void wineexp_find_neighbours(const struct neighbour_tree *tree, const double *x, int64_t n_rows, double *distances,
                             int64_t *numbers)
{
    for (int64_t row = 0; row < n_rows; ++row) {
        const double *cells = x + row * tree->n_columns;
        visit_node(tree, 0, cells, least_distance(tree, 0, cells), distances + row * tree->n_neighbours,
                   numbers + row * tree->n_neighbours);
    }
}

/* The sum of at most 128 neighbours in numpy's order of additions. */
static double numpy_sum(const double *x, int64_t count)
{
    double sum = 0.0;
    int64_t i = 0;
    if (count >= 8) {
        double lanes[8];
        for (; i < 8; ++i)
            lanes[i] = x[i];
        for (; i + 8 <= count; i += 8)
            for (int64_t lane = 0; lane < 8; ++lane)
                lanes[lane] += x[i + lane];
        sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    }
    for (; i < count; ++i)
        sum += x[i];
    return sum;
}

/* A whole model of transformers and XGBoost trees, for one row at a time. */
struct row_model {
    const struct transformer *transformers;
    const struct trees *trees;
    const float *base;
    const int32_t *present;
    int64_t n_transformers, widest, n_present, n_classes;
};

/* The probabilities of one row; returns 0 where a value is infinite, or missing although it must not be. */
int wineexp_predict_row(const struct row_model *model, const double *x, double *out)
{
    const int64_t n_outputs = model->trees->n_outputs;
    double scratch[2 * model->widest], probabilities[model->n_present];
    float cells[model->trees->n_columns + 1], sums[n_outputs];
    for (int64_t i = 0; i < model->n_transformers; ++i) {
        double *to = scratch + (i % 2) * model->widest;
        if (!transform_row(model->transformers + i, x, to))
            return 0;
        x = to;
    }
    for (int64_t i = 0; i < n_outputs; ++i)
        sums[i] = model->base[i];
    wineexp_sum32(model->trees, x, 1, sums, cells);
    if (n_outputs > 1) {
        wineexp_softmax32(sums, 1, n_outputs);
        for (int64_t i = 0; i < n_outputs; ++i)
            probabilities[i] = sums[i];
    } else {
        wineexp_sigmoid32(sums, 1);
        probabilities[0] = 1.0f - sums[0];
        probabilities[1] = sums[0];
    }
    const double sum = numpy_sum(probabilities, model->n_present);
    for (int64_t i = 0; i < model->n_classes; ++i)
        out[i] = 0.0;
    for (int64_t i = 0; i < model->n_present; ++i)
        out[model->present[i]] = probabilities[i] / sum;
    return 1;
}
