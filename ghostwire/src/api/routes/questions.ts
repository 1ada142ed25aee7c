// Questions about what is in force: may one end reach the other, and why.

import type { Domain } from '../../domain.js';
import type { AccessQuestion } from '../../policy/access.js';
import { requireAdmin } from '../auth.js';
import type { Routes } from '../rest.js';
import * as schemas from '../schemas.js';

const PROTOCOLS = { tcp: 6, udp: 17, icmp: 1 } as const;

export function questionRoutes(app: Routes, { adminKeys, access, explainer }: Domain): void {
  const admin = { onRequest: requireAdmin(adminKeys) };
  const errors = { '4xx': schemas.ErrorResponse, '5xx': schemas.ErrorResponse };
  const security = [{ admin: [] }];

  app.post(
    '/v1/policy/decide',
    {
      ...admin,
      schema: {
        summary: 'Whether one end may reach the other',
        security,
        body: schemas.Question,
        response: { 200: schemas.Decision, ...errors },
      },
    },
    (request) => access.decide(question(request.body)),
  );

  app.post(
    '/v1/policy/explain',
    {
      ...admin,
      schema: {
        summary: 'Why one end may reach the other or not: every rule that matches, the deciding one first',
        security,
        body: schemas.Question,
        response: { 200: schemas.Explanation, ...errors },
      },
    },
    (request) => {
      const { matching, ...explanation } = explainer.explain(question(request.body));
      return {
        ...explanation,
        matching: matching.map(({ action, priority, shadowed, text, ...origin }) => ({
          line: origin.kind === 'file' ? origin.line : null,
          rule: origin.kind === 'rule' ? origin.id : null,
          action,
          priority,
          shadowed,
          text,
        })),
      };
    },
  );
}

function question({ src, dst, proto = 'tcp', port = 0 }: { src: string; dst: string; proto?: number | keyof typeof PROTOCOLS; port?: number }): AccessQuestion {
  return { source: src, destination: dst, protocol: typeof proto === 'number' ? proto : PROTOCOLS[proto], port };
}
