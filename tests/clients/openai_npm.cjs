// Ask a server with the SDK of npm, and print what it returned as one JSON object.
// Run as: node openai_npm.cjs chat|tools|parse|fine-tune MODEL [FILE], with OPENAI_BASE_URL and OPENAI_API_KEY.
const fs = require("node:fs");
const OpenAI = require("openai");

const client = new OpenAI({ maxRetries: 0 });
const [what, model, file] = process.argv.slice(2);
const messages = [{ role: "user", content: "What is the capital of France?" }];
const settings = { model, messages, temperature: 0, max_tokens: 30 };
const city = { type: "object", properties: { city: { type: "string", maxLength: 20 } }, required: ["city"], additionalProperties: false };

async function chat() {
  const whole = await client.chat.completions.create(settings);
  const texts = [];
  let usage;
  const stream = await client.chat.completions.create({ ...settings, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta.content) texts.push(chunk.choices[0].delta.content);
    usage = chunk.usage ?? usage;
  }
  const helper = await client.chat.completions.stream(settings).finalChatCompletion();
  const prompt = { model, prompt: "One, two,", temperature: 0, max_tokens: 4 };
  const completion = await client.completions.create({ ...prompt, logprobs: 2 });
  const models = [];
  for await (const one of client.models.list()) models.push(one.id);
  let refused;
  try {
    await client.chat.completions.create({ ...settings, temperature: 3 });
  } catch (error) {
    refused = { status: error.status, param: error.param, is: error instanceof OpenAI.BadRequestError };
  }
  return { whole, texts, usage, helper, completion, models, refused };
}

async function tools() {
  const tool = { type: "function", function: { name: "get_weather", parameters: city, strict: true } };
  const asked = { ...settings, max_tokens: 60, tools: [tool], tool_choice: "required", parallel_tool_calls: false };
  const whole = await client.chat.completions.create(asked);
  const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
  return { whole, streamed };
}

async function parse() {
  const response_format = { type: "json_schema", json_schema: { name: "place", schema: city, strict: true } };
  return { whole: await client.chat.completions.create({ ...settings, response_format }) };
}

async function fineTune() {
  const uploaded = await client.files.create({ file: fs.createReadStream(file), purpose: "fine-tune" });
  const method = { type: "supervised", supervised: { hyperparameters: { n_epochs: 1 } } };
  let job = await client.fineTuning.jobs.create({ model, training_file: uploaded.id, method, suffix: "npm" });
  while (!job.finished_at) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    job = await client.fineTuning.jobs.retrieve(job.id);
  }
  const events = [];
  for await (const event of client.fineTuning.jobs.listEvents(job.id)) events.push(event.type);
  const results = await (await client.files.content(job.result_files[0])).text();
  const answer = await client.chat.completions.create({ model: job.fine_tuned_model, messages, max_tokens: 3 });
  const deleted = await client.files.delete(uploaded.id);
  return { job, events, results, answer, deleted };
}

const does = { chat, tools, parse, "fine-tune": fineTune };
does[what]().then((found) => console.log(JSON.stringify(found)));
