/**
 * node:http. An `import` of that module reads all that it exports, and so makes Node load its
 * WebSocket client with undici and the web streams: 12 MB that nothing here uses. Types are
 * imported as ever.
 */
export const http = process.getBuiltinModule('node:http');
