# The service without an embedded database. Listeners are on loopback until they are configured: see docs/operations.md.
FROM node:24-slim AS packages
WORKDIR /opt/strongroom
COPY package.json package-lock.json .npmrc ./
# Node comes with the image, so the packages that bring it, which are optional, stay out.
RUN npm ci --omit=dev --omit=optional --ignore-scripts

FROM node:24-slim
WORKDIR /opt/strongroom
COPY --from=packages /opt/strongroom/node_modules node_modules
COPY package.json LICENSE openapi.yaml ./
COPY bin bin
COPY migrations migrations
COPY providers providers
COPY src src
ENV NODE_ENV=production \
    STRONGROOM_MODE=production \
    HEALTH_URL=http://127.0.0.1:7400/health/ready
USER node
EXPOSE 7400 7401
# It shows no token, so it need not verify whom it asks. With TLS set HEALTH_URL to https; where callers must show a
# certificate, give the container another health check.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["sh", "-c", "NODE_NO_WARNINGS=1 NODE_TLS_REJECT_UNAUTHORIZED=0 node -e \"fetch(process.env.HEALTH_URL).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))\""]
ENTRYPOINT ["node", "--disable-sigusr1", "bin/strongroom.js"]
CMD ["serve"]
