// MQTT.js driven by JSON: options on standard input, one event per line on standard output.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

// A global NODE_PATH is not consulted for ES modules; the harness says where npm put the package.
const mqtt = createRequire(process.argv[2] + '/')('mqtt')

const options = JSON.parse(readFileSync(0, 'utf8'))
const v5 = options.version === 5
const PACKET_IDENTIFIER_NOT_FOUND = 0x92
const scheme = { tcp: 'mqtt', tls: 'mqtts', ws: 'ws', wss: 'wss' }[options.transport]

const emit = (event, fields) => process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')

function fail (message) {
  console.error(message)
  process.exit(1)
}

function properties (message) {
  if (!v5) return undefined
  const result = {}
  if (message.content_type) result.contentType = message.content_type
  if (message.response_topic) result.responseTopic = message.response_topic
  if (message.correlation_data) result.correlationData = Buffer.from(message.correlation_data)
  if (message.user_properties.length) result.userProperties = Object.fromEntries(message.user_properties)
  return result
}

const client = mqtt.connect(`${scheme}://${options.host}:${options.port}`, {
  protocolVersion: options.version,
  clientId: options.client_id,
  clean: options.clean,
  keepalive: options.keep_alive,
  reconnectPeriod: 100,
  resubscribe: false,
  ca: options.ca ? readFileSync(options.ca) : undefined,
  properties: v5 ? { sessionExpiryInterval: options.expiry } : undefined,
  will: options.will
    ? {
        topic: options.will.topic,
        payload: Buffer.from(options.will.payload, 'hex'),
        qos: options.will.qos,
        retain: options.will.retain,
        properties: properties(options.will)
      }
    : undefined
})

client.on('message', (topic, payload, packet) => {
  const extra = packet.properties ?? {}
  emit('message', {
    topic,
    payload: payload.toString('hex'),
    qos: packet.qos,
    retain: packet.retain,
    content_type: extra.contentType ?? '',
    response_topic: extra.responseTopic ?? '',
    correlation_data: extra.correlationData?.toString() ?? '',
    user_properties: Object.entries(extra.userProperties ?? {})
  })
})

client.once('connect', async (connack) => {
  if (options.messages.length) {
    await Promise.all(options.messages.map((message) =>
      client.publishAsync(message.topic, Buffer.from(message.payload, 'hex'), {
        qos: message.qos,
        retain: message.retain,
        properties: properties(message)
      }).catch((error) => {
        // A PUBREL sent again after a cut may find the message complete: no error then (MQTT 5.0, section 3.7.2.1).
        if (error.code !== PACKET_IDENTIFIER_NOT_FOUND) fail(String(error))
      })))
    await client.endAsync()
    return
  }
  if (options.filters.length) {
    const granted = await client.subscribeAsync(options.filters, { qos: options.qos })
    if (granted.some(({ qos }) => qos >= 0x80)) fail(`refused: ${JSON.stringify(granted)}`)
  }
  emit('ready', { session_present: connack.sessionPresent })
})

// After the first connection an error is a cut, and MQTT.js reconnects by itself.
client.on('error', (error) => {
  if (!client.connected && !client.reconnecting) fail(String(error))
})
