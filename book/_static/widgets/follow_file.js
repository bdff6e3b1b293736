/* Reading a model that the package's export_page_model or export_json has written, and its
   tokenizer; what doesn't fit is refused in a sentence. */

(function () {
  "use strict";

  const { bpe } = window.TransformerLessons;

  // ---- The tokenizer ---------------------------------------------------------------------------

  // PATTERNS of the package, in JavaScript's own spelling: `possessive` parts never have to give
  // anything back here, and (?i:s) also stands for the long s, ſ.
  const SUFFIX = /'(?:[sdmtSDMTſ]|[lL]{2}|[vV][eE]|[rR][eE])/u.source;
  const WORD = /[^\r\n\p{L}\p{N}]?\p{L}+/u.source;
  const SIGNS = / ?[^\p{White_Space}\p{L}\p{N}]+[\r\n]*/u.source;
  const BREAK = /\p{White_Space}*[\r\n]/u.source;
  const SPACE = /\p{White_Space}+(?!\P{White_Space})|\p{White_Space}/u.source;
  const AT_END = /\p{White_Space}+$/u.source;
  const GPT2 = [/'(?:[sdmt]|ll|ve|re)/u, / ?\p{L}+/u].map((part) => part.source);
  const GPT2_SIGNS = / ?[^\p{White_Space}\p{L}\p{N}]+/u.source;
  const PATTERNS = {
    gpt2: [...GPT2, / ?\p{N}+/u.source, GPT2_SIGNS, AT_END, SPACE],
    gpt4: [SUFFIX, WORD, /\p{N}{1,3}/u.source, SIGNS, AT_END, BREAK, SPACE],
    smollm2: [...GPT2, /\p{N}/u.source, GPT2_SIGNS, AT_END, /\p{White_Space}+(?=\p{N})/u.source,
      SPACE],
    llama3: [SUFFIX, WORD, /\p{N}{1,3}/u.source, SIGNS, BREAK, SPACE],
    qwen2: [SUFFIX, WORD, /\p{N}/u.source, SIGNS, BREAK, SPACE],
  };

  /* { tokens, split, encode }: tokens[id] is the bytes of a token, as a string with a character for
     each; split(text) gives pre-tokens, encode(text) ids. `is_special(id)` tells those that stand for no text. */
  function read_tokenizer(file, vocab_size) {
    if (file?.format === "transformer_lessons/bytes-1") return byte_tokenizer();
    if (file?.format !== "transformer_lessons/bpe-1") {
      throw new Error("it has no tokenizer that this page knows");
    }
    const pattern = Object.hasOwn(PATTERNS, file.pattern) ? PATTERNS[file.pattern] : null;
    if (!pattern) throw new Error(`its tokenizer splits by an unknown pattern, '${file.pattern}'`);
    const [tokens, ids, ranks] = [[], new Map(), new Map()];
    const add = (id, token) => {
      if (!Number.isInteger(id) || id < 0 || id >= vocab_size || tokens[id] !== undefined) {
        throw new Error(`its tokenizer has the id ${id}, which is taken or not in the vocabulary`);
      }
      tokens[id] = token;
      ids.set(token, id);
    };
    const is_list = Array.isArray(file.bytes) && Array.isArray(file.merges);
    if (!is_list) throw new Error("its tokenizer has no bytes and merges");
    file.bytes.forEach((id, byte) => id !== null && add(id, String.fromCharCode(byte)));
    file.merges.forEach((merge, rank) => {
      const [left, right, id] = Array.isArray(merge) ? merge : [];
      const token = tokens[left] + tokens[right];
      if (tokens[left] === undefined || tokens[right] === undefined || token.length > 2 ** 16) {
        throw new Error(`merge ${rank} of its tokenizer has an unknown part`);
      }
      add(id, token);
      ranks.set(token, rank);
    });
    const special = new Set();
    for (const [text, id] of Object.entries(file.special_tokens ?? {})) {
      add(id, bpe.utf8_bytes(text));
      ids.delete(tokens[id]);
      special.add(id);
    }
    const regex = new RegExp(pattern.join("|"), "gu");
    const split = (text) => text.match(regex) ?? [];
    const encode_chunk = (chunk) => (ids.has(chunk) ? [chunk] : bpe.merge_chunk(chunk, ranks))
      .map((token) => {
        if (ids.has(token)) return ids.get(token);
        throw new Error(`its vocabulary lacks the byte ${token.charCodeAt(0)}`);
      });
    const encode = (text) => {
      bpe.utf8_bytes(text); // half a character is refused with its place in the whole text
      const normal = file.normal_form ? text.normalize("NFC") : text;
      return split(normal).flatMap((chunk) => encode_chunk(bpe.utf8_bytes(chunk)));
    };
    return { kind: "bpe", tokens, split, encode, is_special: (id) => special.has(id) };
  }

  function byte_tokenizer() {
    const tokens = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte));
    const encode = (text) => Array.from(bpe.utf8_bytes(text), (byte) => byte.charCodeAt(0));
    return { kind: "bytes", tokens, encode, is_special: () => false };
  }

  // ---- The config ------------------------------------------------------------------------------

  const is_size = (value) => Number.isSafeInteger(value) && value >= 1;
  const is_size_or_null = (value) => value === null || is_size(value);
  const is_flag = (value) => typeof value === "boolean";
  const one_of = (...values) => (value) => values.includes(value);
  const number = (rule) => (value) => typeof value === "number" && rule(value);

  // [what a field may be, its value where the file leaves it out]
  const FIELDS = {
    vocab_size: [is_size], context_length: [is_size], d_model: [is_size], n_layers: [is_size],
    n_heads: [is_size], d_ff: [is_size],
    n_kv_heads: [is_size_or_null, null], head_dim: [is_size_or_null, null],
    position: [one_of("rope", "learned", "sinusoidal", "none"), "rope"],
    rope_theta: [number((v) => v > 1 && v < Infinity), 10000], rope_scaling: [one_of(null), null],
    rope_v_scale: [number((v) => v >= 0 && v <= 1), 0], norm: [one_of("layer", "rms"), "layer"],
    norm_eps: [number((v) => v > 0 && v <= 0.1), 1e-5], norm_placement: [one_of("pre"), "pre"],
    adaptive_norm: [is_flag, false], ffn: [one_of("relu", "gelu", "swiglu"), "relu"],
    bias: [is_flag, true], qkv_bias: [one_of(null, true, false), null], head_bias: [is_flag, true],
    qk_norm: [is_flag, false], tie_embeddings: [is_flag, false], scale_embeddings: [is_flag, false],
    sliding_window: [is_size_or_null, null], dropout: [number((v) => v >= 0 && v < 1), 0],
  };

  function read_config(values) {
    if (!is_object(values)) throw new Error("it has no config");
    const unknown = Object.keys(values).find((name) => !Object.hasOwn(FIELDS, name));
    if (unknown) throw new Error(`its config has an unknown key '${unknown}'`);
    const config = {};
    for (const [name, [is_ok, otherwise]] of Object.entries(FIELDS)) {
      config[name] = values[name] === undefined ? otherwise : values[name];
      if (!is_ok(config[name])) {
        throw new Error(`this page can't run config.${name} = ${JSON.stringify(config[name])}`);
      }
    }
    const { d_model, n_heads, n_kv_heads, head_dim, position } = config;
    const d = head_dim ?? d_model / n_heads;
    const is_even = position === "rope" ? 2 : 1;
    if (d % is_even !== 0 || n_heads % (n_kv_heads ?? n_heads) !== 0) {
      throw new Error(`d_model = ${d_model} can't be cut into ${n_heads} heads as its config says`);
    }
    return config;
  }

  /* [[name, shape], ...] of every tensor, in the order of the state dict. */
  function shapes_of(config) {
    const { vocab_size: V, d_model: D, d_ff: F, n_heads: H, context_length: T } = config;
    const [K, d] = [config.n_kv_heads ?? H, config.head_dim ?? D / H];
    const linear = (name, n_out, n_in, bias) =>
      [[`${name}.weight`, [n_out, n_in]], ...(bias ? [[`${name}.bias`, [n_out]]] : [])];
    const norm = (name, n) =>
      [[`${name}.weight`, [n]], ...(config.norm === "layer" ? [[`${name}.bias`, [n]]] : [])];
    const block = (name) => [
      ...norm(`${name}.attention_norm`, D),
      ...linear(`${name}.attention.qkv`, (H + 2 * K) * d, D, config.qkv_bias ?? config.bias),
      ...linear(`${name}.attention.out`, D, H * d, config.bias),
      ...(config.qk_norm ? [...norm(`${name}.attention.q_norm`, d),
        ...norm(`${name}.attention.k_norm`, d)] : []),
      ...norm(`${name}.feedforward_norm`, D),
      ...(config.ffn === "swiglu" ? linear(`${name}.feedforward.gate`, F, D, config.bias) : []),
      ...linear(`${name}.feedforward.up`, F, D, config.bias),
      ...linear(`${name}.feedforward.down`, D, F, config.bias),
    ];
    return [
      ["embedding.weight", [V, D]],
      ...(config.position === "learned" ? [["position_embedding.weight", [T, D]]] : []),
      ...Array.from({ length: config.n_layers }, (_, i) => block(`blocks.${i}`)).flat(),
      ...norm("final_norm", D),
      ...(config.tie_embeddings ? [] : [["head.weight", [V, D]]]),
      ...(config.head_bias ? [["head.bias", [V]]] : []),
    ];
  }

  // ---- The weights -----------------------------------------------------------------------------

  const is_object = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

  function bytes_of(text, name) {
    try {
      const characters = atob(text);
      const bytes = new Uint8Array(characters.length);
      for (let i = 0; i < bytes.length; i += 1) bytes[i] = characters.charCodeAt(i);
      return bytes;
    } catch {
      throw new Error(`tensor '${name}' is not base64`);
    }
  }

  function float32_of(text, name) {
    const bytes = bytes_of(text, name);
    const view = new DataView(bytes.buffer);
    return Float32Array.from({ length: bytes.length >> 2 }, (_, i) => view.getFloat32(4 * i, true));
  }

  /* The numbers of one tensor as a flat Float32Array, from any of the three ways to write them. */
  function read_tensor(name, entry, shape) {
    if (!is_object(entry)) throw new Error(`tensor '${name}' is missing`);
    if (String(entry.shape) !== String(shape)) {
      throw new Error(`tensor '${name}' is (${entry.shape}), not (${shape})`);
    }
    let numbers;
    if (typeof entry.int8 === "string") numbers = scaled(name, entry, shape);
    else if (typeof entry.float32 === "string") numbers = float32_of(entry.float32, name);
    else numbers = Float32Array.from(Array.isArray(entry.data) ? entry.data : []);
    const n_numbers = shape.reduce((a, b) => a * b);
    if (numbers.length !== n_numbers) {
      throw new Error(`tensor '${name}' has ${numbers.length} numbers, not ${n_numbers}`);
    }
    if (!numbers.every((number) => Number.isFinite(number))) {
      throw new Error(`tensor '${name}' has a number that is not finite`);
    }
    return numbers;
  }

  function scaled(name, entry, [, n_columns]) {
    const integers = new Int8Array(bytes_of(entry.int8, name).buffer);
    const scale = float32_of(String(entry.scale), name);
    const numbers = new Float32Array(integers.length);
    for (let i = 0; i < numbers.length; i += 1) {
      numbers[i] = integers[i] * scale[Math.floor(i / n_columns)];
    }
    return numbers;
  }

  /* { config, tokenizer, tensors, shapes, n_parameters } of the parsed JSON. `pause()` is awaited
     after every tensor, so that the page stays awake meanwhile. */
  async function read_page_model(file, pause = () => {}) {
    const formats = ["transformer_lessons/page-1", "transformer_lessons/1"];
    if (!is_object(file) || !formats.includes(file.format)) {
      throw new Error("it is not a model that export_page_model or export_json has written");
    }
    const config = read_config(file.config);
    if (!is_object(file.weights)) throw new Error("it has no weights");
    if (file.format === formats[1] && config.vocab_size !== 256) {
      throw new Error("it has no tokenizer: write it with export_page_model");
    }
    const n_layers = Object.keys(file.weights).filter((name) =>
      name.endsWith(".attention.qkv.weight")).length;
    if (n_layers !== config.n_layers) { // before a list is made for a mistyped number
      throw new Error(`it has ${n_layers} blocks, but its config says ${config.n_layers}`);
    }
    const tensors = {};
    const shapes = shapes_of(config);
    for (const [name, shape] of shapes) {
      tensors[name] = read_tensor(name, file.weights[name], shape);
      await pause();
    }
    const odd = Object.keys(file.weights).find((name) => !Object.hasOwn(tensors, name));
    if (odd) throw new Error(`tensor '${odd}' is not part of such a model`);
    const tokenizer = file.format === formats[1] ? byte_tokenizer()
      : read_tokenizer(file.tokenizer, config.vocab_size);
    const n_parameters = Object.values(tensors).reduce((sum, tensor) => sum + tensor.length, 0);
    return { config, tokenizer, tensors, shapes: Object.fromEntries(shapes), n_parameters };
  }

  Object.assign(window.TransformerLessons, { read_page_model });
})();
