/* Gradients in JavaScript: a tape that remembers what was computed, and walks back along it.

   The twin of transformer_lessons/autograd/ (lesson 11), with the seven operations that the first
   model needs. Everything is a matrix: the rows are the B * T tokens of a batch, one after another,
   and `data` and `grad` hold their numbers row by row, in float64.

   Each operation computes its result and leaves a function on the tape, which adds to the gradients
   of the inputs what the gradient of the result gives them. */

(function () {
  "use strict";

  function matrix(rows, columns, data = new Float64Array(rows * columns)) {
    return { rows, columns, data, grad: new Float64Array(rows * columns) };
  }

  class Tape {
    constructor() {
      this.steps = [];
    }

    /* From the last operation to the first: afterwards every gradient is complete. */
    backward(loss) {
      loss.grad[0] = 1;
      for (const step of this.steps.reverse()) step();
    }

    /* One row of `table` for each id. A row that is taken twice gets both gradients. */
    gather_rows(table, ids) {
      const width = table.columns;
      const y = matrix(ids.length, width);
      ids.forEach((id, n) => {
        for (let i = 0; i < width; i += 1) y.data[n * width + i] = table.data[id * width + i];
      });
      this.steps.push(() => ids.forEach((id, n) => {
        for (let i = 0; i < width; i += 1) table.grad[id * width + i] += y.grad[n * width + i];
      }));
      return y;
    }

    /* x Wᵀ + b, with W (out, in). */
    linear(x, weight, bias) {
      const [n_out, n_in] = [weight.rows, weight.columns];
      const y = matrix(x.rows, n_out);
      for (let n = 0; n < x.rows; n += 1) {
        for (let o = 0; o < n_out; o += 1) {
          let sum = bias.data[o];
          for (let i = 0; i < n_in; i += 1) sum += x.data[n * n_in + i] * weight.data[o * n_in + i];
          y.data[n * n_out + o] = sum;
        }
      }
      this.steps.push(() => {
        for (let n = 0; n < x.rows; n += 1) {
          for (let o = 0; o < n_out; o += 1) {
            const g = y.grad[n * n_out + o];
            bias.grad[o] += g;
            for (let i = 0; i < n_in; i += 1) {
              weight.grad[o * n_in + i] += g * x.data[n * n_in + i];
              x.grad[n * n_in + i] += g * weight.data[o * n_in + i];
            }
          }
        }
      });
      return y;
    }

    add(x, y) {
      const sum = matrix(x.rows, x.columns, x.data.map((number, i) => number + y.data[i]));
      this.steps.push(() => sum.grad.forEach((g, i) => {
        x.grad[i] += g;
        y.grad[i] += g;
      }));
      return sum;
    }

    relu(x) {
      const y = matrix(x.rows, x.columns, x.data.map((number) => Math.max(number, 0)));
      this.steps.push(() => y.grad.forEach((g, i) => { x.grad[i] += x.data[i] > 0 ? g : 0; }));
      return y;
    }

    /* RoPE: turn the queries and keys of all heads. Its gradient is turned back. */
    rotate(qkv, { n_tokens, head_dim, theta }) {
      const half = head_dim / 2;
      const angles = Float64Array.from({ length: n_tokens * half }, (_, i) =>
        Math.floor(i / half) * theta ** ((-2 * (i % half)) / head_dim));
      const [cos, sin] = [angles.map(Math.cos), angles.map(Math.sin)];
      const y = matrix(qkv.rows, qkv.columns, turned(qkv.data, 1));
      this.steps.push(() => turned(y.grad, -1).forEach((g, i) => { qkv.grad[i] += g; }));
      return y;

      function turned(numbers, direction) {
        const after = numbers.slice();
        const n_turned = (2 * qkv.columns) / 3; // not the values
        for (let n = 0; n < qkv.rows; n += 1) {
          for (let start = 0; start < n_turned; start += head_dim) {
            for (let j = 0; j < half; j += 1) {
              const place = (n % n_tokens) * half + j;
              const [c, s] = [cos[place], direction * sin[place]];
              const [a, b] = [n * qkv.columns + start + j, n * qkv.columns + start + half + j];
              after[a] = numbers[a] * c - numbers[b] * s;
              after[b] = numbers[b] * c + numbers[a] * s;
            }
          }
        }
        return after;
      }
    }

    /* softmax(q kᵀ / √d) v in every head; `weights` of the result holds the softmax,
       [sequence][head][query][key] in one row of numbers. */
    attend(qkv, { n_tokens: T, head_dim: d, n_heads: H, is_causal }) {
      const [width, D] = [qkv.columns, H * d];
      const y = matrix(qkv.rows, D);
      y.weights = new Float64Array((qkv.rows / T) * H * T * T);
      each_query((place, q, k, v, n, head, t) => {
        const row = y.weights.subarray(place, place + T);
        const n_seen = is_causal ? t + 1 : T;
        let [largest, total] = [-Infinity, 0];
        for (let s = 0; s < n_seen; s += 1) {
          let score = 0;
          for (let i = 0; i < d; i += 1) score += qkv.data[q + i] * qkv.data[k + s * width + i];
          row[s] = score / Math.sqrt(d);
          largest = Math.max(largest, row[s]);
        }
        for (let s = 0; s < n_seen; s += 1) total += row[s] = Math.exp(row[s] - largest);
        for (let s = 0; s < n_seen; s += 1) {
          row[s] /= total;
          for (let i = 0; i < d; i += 1) {
            y.data[n * D + head * d + i] += row[s] * qkv.data[v + s * width + i];
          }
        }
      });
      this.steps.push(() => each_query((place, q, k, v, n, head) => {
        const row = y.weights.subarray(place, place + T);
        const g = y.grad.subarray(n * D + head * d, n * D + head * d + d);
        const of_weights = row.map((weight, s) => {
          let sum = 0;
          for (let i = 0; i < d; i += 1) {
            sum += g[i] * qkv.data[v + s * width + i];
            qkv.grad[v + s * width + i] += weight * g[i];
          }
          return sum;
        });
        const mean = row.reduce((sum, weight, s) => sum + weight * of_weights[s], 0);
        for (let s = 0; s < T; s += 1) {
          const of_score = (row[s] * (of_weights[s] - mean)) / Math.sqrt(d);
          for (let i = 0; i < d; i += 1) {
            qkv.grad[q + i] += of_score * qkv.data[k + s * width + i];
            qkv.grad[k + s * width + i] += of_score * qkv.data[q + i];
          }
        }
      }));
      return y;

      /* Where the numbers of each query, and the first key and value that it may see, begin. */
      function each_query(visit) {
        for (let n = 0; n < qkv.rows; n += 1) {
          for (let head = 0; head < H; head += 1) {
            const [t, first] = [n % T, n - (n % T)];
            const place = ((first / T) * H + head) * T * T + t * T;
            const k = first * width + D + head * d;
            visit(place, n * width + head * d, k, k + D, n, head, t);
          }
        }
      }
    }

    /* The mean of -log softmax(logits)[target]. Its gradient is softmax - 1 at the target, and
       softmax elsewhere, divided by the number of targets. */
    cross_entropy(logits, targets) {
      const [N, V] = [logits.rows, logits.columns];
      const probabilities = logits.data.slice();
      const loss = matrix(1, 1);
      for (let n = 0; n < N; n += 1) {
        const row = probabilities.subarray(n * V, (n + 1) * V);
        const largest = row.reduce((a, b) => Math.max(a, b));
        let total = 0;
        for (let i = 0; i < V; i += 1) total += row[i] = Math.exp(row[i] - largest);
        for (let i = 0; i < V; i += 1) row[i] /= total;
        loss.data[0] += (Math.log(total) + largest - logits.data[n * V + targets[n]]) / N;
      }
      this.steps.push(() => {
        const g = loss.grad[0] / N;
        for (let i = 0; i < N * V; i += 1) logits.grad[i] += g * probabilities[i];
        targets.forEach((target, n) => { logits.grad[n * V + target] -= g; });
      });
      return loss;
    }
  }

  Object.assign((window.TransformerLessons ??= {}), { Tape, matrix });
})();
