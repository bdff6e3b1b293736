/* Reading a model that the package's export_json has written, and refusing what doesn't fit: the
   page's twin of load_json in transformer_lessons/weights/export.py. */

(function () {
  "use strict";

  const LARGEST_FILE = 50e6; // bytes: beyond this a tab struggles

  /* What decoder.js takes for granted. The package can do more; such models are refused by name. */
  const FIXED = {
    n_kv_heads: null, head_dim: null, position: "rope", rope_scaling: null, norm: "layer",
    norm_placement: "pre", ffn: "relu", bias: true, qkv_bias: null, head_bias: true,
    qk_norm: false, tie_embeddings: false, scale_embeddings: false, sliding_window: null,
  };

  const is_object = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  const is_size = (value) => Number.isSafeInteger(value) && value >= 1;
  const is_between = (low, high) => (value) =>
    typeof value === "number" && value >= low && value <= high;

  /* {config, weights} of the parsed JSON, each tensor as rows of numbers; what doesn't fit throws
     an Error that names it. */
  function read_model(file) {
    if (!is_object(file) || file.format !== "transformer_lessons/1") {
      throw new Error("it is not a model that export_json has written");
    }
    const config = read_config(file.config);
    const n_parameters = count_numbers(file.weights);
    for (const name of ["vocab_size", "d_model", "n_layers", "d_ff"]) {
      // Each of these needs as many weights: found before anything is built to a mistyped size.
      if (config[name] > n_parameters) {
        throw new Error(`config.${name} = ${config[name]}, but it has ${n_parameters} weights`);
      }
    }
    const shapes = expected_shapes(config);
    for (const name of Object.keys(file.weights)) {
      if (!shapes.has(name)) throw new Error(`tensor '${name}' is not part of this model`);
    }
    const weights = {};
    for (const [name, shape] of shapes) {
      weights[name] = read_tensor(name, file.weights[name], shape);
    }
    return { config, weights, n_parameters };
  }

  function read_config(values) {
    if (!is_object(values)) throw new Error("it has no config");
    const defaults = {
      rope_theta: 10000, rope_v_scale: 0, norm_eps: 1e-5, adaptive_norm: false, dropout: 0,
    };
    const sizes = ["vocab_size", "context_length", "d_model", "n_layers", "n_heads", "d_ff"];
    const rules = {
      ...Object.fromEntries(sizes.map((name) => [name, is_size])),
      rope_theta: (value) => is_between(1, Number.MAX_VALUE)(value) && value > 1,
      rope_v_scale: is_between(0, 1),
      norm_eps: is_between(Number.MIN_VALUE, 0.1),
      adaptive_norm: (value) => typeof value === "boolean",
      dropout: (value) => is_between(0, 1)(value) && value < 1,
    };
    const config = { ...defaults, ...FIXED, ...values };
    for (const name of Object.keys(config)) {
      if (Object.hasOwn(FIXED, name)) {
        if (config[name] !== FIXED[name]) {
          const value = JSON.stringify(config[name]);
          throw new Error(`config.${name} = ${value} is more than this page can run`);
        }
      } else if (!Object.hasOwn(rules, name)) {
        throw new Error(`its config has an unknown key '${name}'`);
      }
    }
    for (const [name, is_ok] of Object.entries(rules)) {
      if (!is_ok(config[name])) throw new Error(`config.${name} = ${config[name]} is not possible`);
    }
    if (config.d_model % (2 * config.n_heads) !== 0) {
      const { d_model, n_heads } = config;
      throw new Error(`d_model = ${d_model} can't be cut into ${n_heads} heads of even width`);
    }
    return config;
  }

  function count_numbers(weights) {
    if (!is_object(weights)) throw new Error("it has no weights");
    for (const [name, tensor] of Object.entries(weights)) {
      if (!is_object(tensor) || !Array.isArray(tensor.shape) || !Array.isArray(tensor.data)) {
        throw new Error(`tensor '${name}' has no shape and data`);
      }
    }
    return Object.values(weights).reduce((sum, tensor) => sum + tensor.data.length, 0);
  }

  /* The name and shape of every tensor of a Decoder, as its state dict has them. */
  function expected_shapes({ vocab_size: V, d_model: D, d_ff: F, n_layers }) {
    const shapes = new Map();
    const linear = (name, n_out, n_in) =>
      shapes.set(`${name}.weight`, [n_out, n_in]).set(`${name}.bias`, [n_out]);
    const norm = (name) => shapes.set(`${name}.weight`, [D]).set(`${name}.bias`, [D]);

    shapes.set("embedding.weight", [V, D]);
    for (let i = 0; i < n_layers; i += 1) {
      norm(`blocks.${i}.attention_norm`);
      linear(`blocks.${i}.attention.qkv`, 3 * D, D);
      linear(`blocks.${i}.attention.out`, D, D);
      norm(`blocks.${i}.feedforward_norm`);
      linear(`blocks.${i}.feedforward.up`, F, D);
      linear(`blocks.${i}.feedforward.down`, D, F);
    }
    norm("final_norm");
    linear("head", V, D);
    return shapes;
  }

  /* A vector as an array, a matrix as an array of rows; its numbers rounded to float32. */
  function read_tensor(name, tensor, shape) {
    if (tensor === undefined) throw new Error(`tensor '${name}' is missing`);
    if (JSON.stringify(tensor.shape) !== JSON.stringify(shape)) {
      throw new Error(`tensor '${name}' is (${tensor.shape}), not (${shape})`);
    }
    const n_numbers = shape.reduce((a, b) => a * b);
    if (tensor.data.length !== n_numbers) {
      throw new Error(`tensor '${name}' has ${tensor.data.length} numbers, not ${n_numbers}`);
    }
    const data = tensor.data.map((number, place) => {
      const rounded = typeof number === "number" ? Math.fround(number) : NaN;
      if (!Number.isFinite(rounded)) {
        throw new Error(`tensor '${name}', data[${place}] is not a number that float32 can hold`);
      }
      return rounded;
    });
    if (shape.length === 1) return data;
    return Array.from({ length: shape[0] }, (_, i) => data.slice(i * shape[1], (i + 1) * shape[1]));
  }

  /* The parsed JSON of a file that the reader has chosen. */
  function read_json(file) {
    if (file.size > LARGEST_FILE) throw new Error("it is larger than 50 MB");
    return new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.addEventListener("error", () => reject(new Error("it can't be read")));
      reader.addEventListener("load", () => {
        try {
          resolve(JSON.parse(reader.result));
        } catch {
          reject(new Error("it is not JSON"));
        }
      });
      reader.readAsText(file);
    });
  }

  Object.assign((window.TransformerLessons ??= {}), { expected_shapes, read_json, read_model });
})();
