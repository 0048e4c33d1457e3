// Generates src/generated from the OpenAPI document, whose path is in KATAVEN_OPENAPI.
import { readFileSync } from 'node:fs';

const document = JSON.parse(readFileSync(process.env.KATAVEN_OPENAPI, 'utf8'));

// Fields that only the server sets are accepted in requests and ignored. Without them, each body has one type.
for (const schema of Object.values(document.components.schemas)) {
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    if (field.readOnly) delete schema.properties[name];
  }
}

// `createClient` sends X-Account-ID with every request.
for (const operation of Object.values(document.paths).flatMap((methods) => Object.values(methods))) {
  operation.parameters = operation.parameters.filter((parameter) => parameter.name !== 'X-Account-ID');
}

export default {
  input: document,
  output: { path: 'src/generated', importFileExtension: '.js' },
  plugins: [
    '@hey-api/typescript',
    '@hey-api/client-fetch',
    { name: '@hey-api/sdk', operations: { strategy: 'single', containerName: 'KatavenOperations' } },
  ],
};
