// Server-sent events over `fetch`, since EventSource cannot send the token in a header.

export interface ServerEvent {
  event: string;
  data: string;
}

export async function* readEvents(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<ServerEvent> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop()!;
    for (const block of blocks) {
      const event = parseEvent(block);
      // Comments only keep the connection open.
      if (event.data) yield event;
    }
  }
}

function parseEvent(block: string): ServerEvent {
  const fields = block.split("\n").map((line) => line.split(/: ?(.*)/s, 2));
  const valuesOf = (name: string) => fields.filter(([field]) => field === name).map(([, value]) => value);
  return { event: valuesOf("event")[0] ?? "message", data: valuesOf("data").join("\n") };
}
