// Asks hal0 for all that an OpenAI client can, with the unmodified OpenAI client; prints what it saw as JSON.
import OpenAI, { toFile } from "openai";

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

const events = [];
const responding = await client.responses.create({
  model: "primary",
  stream: true,
  max_output_tokens: 8,
  input: "Hello",
});
for await (const event of responding) events.push(event.type);

const input = ["a river", "a mountain"];
const packed = await client.embeddings.create({ model: "embed", input });
const plain = await client.embeddings.create({ model: "embed", input, encoding_format: "float" });

const speech = await client.audio.speech.create({ model: "tts", voice: "alloy", input: "Hello.", response_format: "wav" });
const sound = Buffer.from(await speech.arrayBuffer());

// Its forms keep this order: the file in the middle.
const heard = {};
for (const format of ["json", "text", "verbose_json", "srt", "vtt"]) {
  heard[format] = await client.audio.transcriptions.create({
    response_format: format,
    file: await toFile(sound, "hello.wav"),
    model: "stt",
  });
}

const failed = async (asking) => {
  try {
    await asking();
    return null;
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, code: error.code, requestId: error.requestID };
  }
};
const refusals = {
  messages: await failed(() => client.chat.completions.create({ model: "primary", messages: "not a list" })),
  capability: await failed(() => client.embeddings.create({ model: "primary", input })),
  sound: await failed(async () =>
    client.audio.transcriptions.create({ file: await toFile(Buffer.from("words"), "a.mp3"), model: "stt" }),
  ),
  model: await failed(() => client.models.retrieve("nobody")),
};

const models = [];
for await (const model of client.models.list()) models.push(model.id);

console.log(
  JSON.stringify({
    chunks,
    text,
    events,
    packed: packed.data.map((item) => item.embedding),
    plain: plain.data.map((item) => item.embedding),
    sound: { kind: speech.headers.get("content-type"), begins: sound.subarray(0, 4).toString("latin1"), size: sound.length },
    heard,
    refusals,
    models,
  }),
);
