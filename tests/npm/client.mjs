// Streams a chat and fetches embeddings through hal0 with the unmodified OpenAI client; prints what it saw as JSON.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });

const stream = await client.chat.completions.create({
  model: "primary",
  stream: true,
  max_tokens: 20,
  messages: [{ role: "user", content: "Hello" }],
});
let chunks = 0;
let text = "";
for await (const chunk of stream) {
  chunks += 1;
  text += chunk.choices[0]?.delta?.content ?? "";
}

const input = ["a river", "a mountain"];
const packed = await client.embeddings.create({ model: "embed", input });
const plain = await client.embeddings.create({ model: "embed", input, encoding_format: "float" });

let refusal = null;
try {
  await client.chat.completions.create({ model: "primary", messages: "not a list" });
} catch (error) {
  refusal = { status: error.status, requestId: error.requestID ?? error.request_id ?? null };
}

const models = [];
for await (const model of client.models.list()) models.push(model.id);

console.log(
  JSON.stringify({
    chunks,
    text,
    packed: packed.data.map((item) => item.embedding),
    plain: plain.data.map((item) => item.embedding),
    refusal,
    models,
  }),
);
